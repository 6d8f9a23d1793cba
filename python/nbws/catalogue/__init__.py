"""What nbws knows of the paths of workspaces, as data: TOML beside the modules that read it."""
