//! Files that are read although their stat says that they have not changed.

use crate::local::Stat;
use crate::local::cache::KnownTree;
use crate::options::SaveOptions;

/// Modified so shortly before the last save, a file may have got writes through a shared mapping since that moved no timestamp.
const MAPPED_SECONDS: i64 = 60;

/// Which files are read although nothing in their stat says that they have changed.
#[derive(Clone, Copy)]
pub(super) enum Reread {
    None,
    /// Those modified at this second or later.
    Since(i64),
    All,
}

impl Reread {
    /// For the last save of a run: the newest change that the base knows of is no later than the last save.
    pub(super) fn of(options: &SaveOptions, base: Option<&KnownTree>) -> Self {
        let newest = base.into_iter().flat_map(|tree| &tree.keys);
        match newest.map(|key| key.ctime.seconds).max() {
            _ if options.reread => Reread::All,
            Some(newest) if options.is_last => Reread::Since(newest - MAPPED_SECONDS),
            _ => Reread::None,
        }
    }

    pub(super) fn wants(self, stat: &Stat) -> bool {
        match self {
            Reread::None => false,
            Reread::Since(second) => stat.mtime.seconds >= second,
            Reread::All => true,
        }
    }
}
