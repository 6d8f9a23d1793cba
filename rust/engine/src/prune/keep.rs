//! What must be kept: the rules in force, and rescues that have not expired.

use super::plan::Plan;
use super::record::append_step;
use super::survey::Survey;
use super::{Run, Step};
use crate::beside::Change;
use crate::options::PruneOptions;
use nbws_core::Result;
use nbws_core::record::{Body, DismissBody, Retention, Settings};

/// The rules in force: those of the caller, else of this repository, else of its container; without any, all is kept.
pub(super) fn rules(options: &PruneOptions, settings: &Settings) -> Result<Retention> {
    let own = match &options.retention {
        Some(rules) => Some(rules.clone()),
        None => settings.retention()?,
    };
    Ok(own
        .or_else(|| options.default_retention.clone())
        .unwrap_or_default())
}

/// Gives up one rescue that has expired; the others follow one by one.
pub(super) async fn dismiss_expired(
    run: &mut Run<'_>,
    survey: &Survey,
    plan: &Plan,
) -> Result<Step> {
    let Some(rescue) = plan.expired.first().copied() else {
        return Ok(Step::Nothing);
    };
    let body = Body::Dismiss(DismissBody { rescue });
    let (step, _) = append_step(run.access, &survey.log, body, Change::default()).await?;
    Ok(step)
}
