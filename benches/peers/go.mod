// The releases that `make bench-peers` builds.
module peers

go 1.25.0

require (
	github.com/kopia/kopia v0.22.3
	github.com/restic/restic v0.18.1
)
