//! What a target may lose and what is proven of it: before, while and after it is changed.

use super::finish::mode_to_set;
use super::plan::RestorePlan;
use super::source::Source;
use super::write::STAGING;
use super::{Mode, TICK};
use crate::local::Scanned;
use crate::local::cache::KnownTree;
use crate::options::{Delete, RestoreOptions};
use crate::report::RestoreReport;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::{Error, ErrorKind, Result, path};
use std::os::unix::ffi::OsStrExt;

/// Whether extra paths are removed. A target that is not known to come from here is not touched without being told to.
pub(super) fn may_delete(
    target: &Target,
    options: &RestoreOptions,
    scanned: &Scanned,
    plan: &RestorePlan,
) -> Result<bool> {
    let is_known = target.session.base.is_some() && target.tree.is_some();
    let is_ours = is_known || target.is_half_replaced;
    match options.delete {
        Delete::Yes => Ok(true),
        Delete::No => Ok(false),
        Delete::Auto if is_ours || scanned.is_empty() => Ok(true),
        Delete::Auto if plan.extra.is_empty() && plan.differing == 0 => Ok(true),
        Delete::Auto => Err(Error::new(
            ErrorKind::InvalidInput,
            "restore",
            format!(
                "the directory holds {} paths that the snapshot does not have and {} that differ, and nothing says that \
                 they come from this repository; say delete=True (--delete yes) to replace them or delete=False \
                 (--delete no) to keep extra ones",
                plan.extra.len(),
                plan.differing
            ),
        )
        .at_path(target.path.as_os_str().as_bytes())),
    }
}

/// Makes the target ready to be written to: an empty one itself, another one beside its tree.
pub(super) fn begin(
    access: &Access,
    target: &mut Target,
    source: &Source,
    mode: Mode,
) -> Result<()> {
    if mode.is_staged {
        target.root.remove_tree(STAGING)?;
        return target.root.make_directory(STAGING);
    }
    if mode.is_part {
        return Ok(());
    }
    give_up_proof(access, target, source, true)?;
    let root_mode = mode_to_set(source.root.root_mode, true, mode.numeric_ids);
    target.root.set_root_mode(root_mode)
}

/// From here on the target is half restored, and no save can make it the head. A failure leaves all as it was. `may_delete`: the
/// restore that finishes this one may remove what it finds, too.
pub(super) fn give_up_proof(
    access: &Access,
    target: &mut Target,
    source: &Source,
    may_delete: bool,
) -> Result<()> {
    if !target.is_half_restored {
        target.mark_half_restored(source.resolved.head.snapshot, may_delete)?;
    }
    target.session.proof = None;
    target.store_session_or_go_on(&access.inner);
    Ok(())
}

/// What the next save relies on. A whole restore is the proof that the target holds the workspace head.
pub(super) fn end(
    access: &Access,
    target: &mut Target,
    source: Source,
    plan: RestorePlan,
    report: &mut RestoreReport,
    mode: Mode,
) -> Result<()> {
    target.root.sync_file_system()?;
    if mode.is_part {
        return Ok(());
    }
    if !report.complete {
        let text = "the restore is incomplete; until it is repeated, saves of this directory become rescues";
        report.warnings.push(text.to_owned());
        return Ok(());
    }
    std::thread::sleep(TICK);
    target.session.proof = Some(source.head);
    target.session.synced = true;
    target.is_half_restored = false;
    let known = KnownTree {
        saved_here: false,
        segments: source.segments,
        keys: plan.keys,
    };
    target.store_tree_or_go_on(&access.inner, source.resolved.head.snapshot, known);
    target.root.remove_file(path::RESTORING)
}
