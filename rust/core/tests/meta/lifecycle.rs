use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::id::{CommitId, RepositoryId, SnapshotId, WriterId};
use nbws_core::ledger::Owner;
use nbws_core::lifecycle::*;
use nbws_core::record::*;
use nbws_core::state::State;

const OWNER: u8 = 1;
const OTHER: u8 = 2;
const EPOCH: u64 = 5;

/// The same rules as in the core, spelled once more and by hand: N(one) A(starting) R(unning) P(stopping) S(topped) F(ailed)
/// E(rror) Y(nc failed) T(restarting) D(eleting).
const EXPECTED: [(Step, &str); 6] = [
    (Step::Claim, "N>A A>A R>A P>A S>A F>A E>A Y>A T>A"),
    (
        Step::State,
        "N>NS A>ARFE R>RPTFE P>PSYFE S>S F>F E>E Y>YS T>TRPFE",
    ),
    (Step::Session, "A>A R>R P>P Y>Y T>T"),
    (Step::OneShot, "N>N A>S R>S P>S S>S F>F E>E Y>YS T>S"),
    (Step::Delete, "N>D A>D R>D P>D S>D F>D E>D Y>D T>D"),
    (Step::Purge, "D>D"),
];

fn letter(state: State) -> char {
    match state {
        State::None => 'N',
        State::Starting => 'A',
        State::Running => 'R',
        State::Stopping => 'P',
        State::Stopped => 'S',
        State::Failed => 'F',
        State::Error => 'E',
        State::SyncFailed => 'Y',
        State::Restarting => 'T',
        State::Deleting => 'D',
    }
}

fn listed(step: Step, from: State, to: State) -> bool {
    let (_, rules) = EXPECTED.iter().find(|(s, _)| *s == step).unwrap();
    rules
        .split(' ')
        .filter_map(|rule| rule.split_once('>'))
        .any(|(f, t)| f.starts_with(letter(from)) && t.contains(letter(to)))
}

fn body_of(step: Step) -> Body {
    match step {
        Step::Claim => Body::Claim(ClaimBody {
            resident: true,
            take_over: true,
        }),
        Step::State => state_body(),
        Step::Session => Body::Snapshot(numbered_snapshot(3, false)),
        Step::OneShot => Body::Snapshot(numbered_snapshot(3, true)),
        Step::Delete => Body::Tombstone(TombstoneBody { purge: false }),
        Step::Purge => Body::Tombstone(TombstoneBody { purge: true }),
    }
}

fn state_body() -> Body {
    Body::State(StateBody {
        comment: None,
        info: None,
    })
}

fn settings() -> Body {
    Body::Settings(SettingsBody {
        attachment: place(8),
    })
}

fn keeping() -> Vec<Body> {
    vec![
        settings(),
        Body::Rescue(rescue_of(
            numbered_snapshot(4, false),
            "unproven".to_owned(),
        )),
        Body::Dismiss(DismissBody {
            rescue: SnapshotId([4; 16]),
        }),
        Body::Repack(RepackBody {
            count: 1,
            packs: place(6),
        }),
        Body::Mark(MarkBody {
            attachment: place(6),
            bytes: 1,
            packs: 1,
            snapshots: 0,
        }),
        Body::Cancel(CancelBody { mark: 1 }),
        Body::Sweep(SweepBody { marks: vec![1] }),
        Body::Swept(SweptBody {
            freed_bytes: 1,
            marks: vec![1],
        }),
    ]
}

/// A head in `state` in epoch 5, number 7, by the owner.
fn head_in(state: State) -> Record {
    let mut head = following(None, OWNER, EPOCH, state, state_body());
    head.seq = 7;
    head.parent = Some(CommitId([1; 16]));
    head.head = Some(Head {
        root: place(2),
        snapshot: SnapshotId([2; 16]),
    });
    head.index = Some(place(9));
    head.settings = Some(place(10));
    head
}

fn opens(step: Option<Step>) -> bool {
    matches!(step, Some(Step::Claim | Step::OneShot))
}

fn next_of(head: &Record, state: State, body: Body) -> Record {
    let epoch = head.epoch + u64::from(opens(Step::of(&body)));
    following(Some(head), OWNER, epoch, state, body)
}

fn owner() -> Option<Owner> {
    Some(Owner {
        epoch: EPOCH,
        writer: WriterId([OWNER; 16]),
    })
}

fn kind_of(result: nbws_core::Result<()>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

#[test]
fn every_pair_of_state_and_step_is_accepted_or_refused_as_listed() {
    let mut accepted = 0;
    for step in Step::ALL {
        for from in State::ALL {
            for to in State::ALL {
                let allowed = listed(step, from, to);
                assert_eq!(next_states(step, from).contains(&to), allowed);
                let head = head_in(from);
                let next = next_of(&head, to, body_of(step));
                let sessions = matches!(step, Step::State | Step::Session);
                let expected = match allowed {
                    true => None,
                    false if from == State::Deleting && sessions => Some(ErrorKind::Fenced),
                    false => Some(ErrorKind::InvalidState),
                };
                let case = format!("{step:?} {from} > {to}");
                assert_eq!(
                    kind_of(check_append(Some(&head), &next)),
                    expected,
                    "{case}"
                );
                let owned = check_append_owned(Some(&head), owner(), &next);
                assert_eq!(kind_of(owned), expected, "{case}, owner known");
                accepted += usize::from(allowed);
            }
        }
    }
    assert_eq!(accepted, 9 + 26 + 5 + 10 + 9 + 1);
}

#[test]
fn the_other_kinds_keep_every_state_and_change_none() {
    assert_eq!(keeping().len() + 4, Kind::ALL.len());
    for body in keeping() {
        for from in State::ALL {
            for to in State::ALL {
                let head = head_in(from);
                let mut next = next_of(&head, to, body.clone());
                next.writer = WriterId([OTHER; 16]);
                let expected = (from != to).then_some(ErrorKind::InvalidState);
                assert_eq!(
                    kind_of(check_append(Some(&head), &next)),
                    expected,
                    "{} {from} > {to}",
                    body.kind()
                );
            }
        }
    }
}

#[test]
fn a_live_notebook_is_not_claimed_by_accident() {
    for state in State::ALL {
        let claim = Body::Claim(ClaimBody {
            resident: true,
            take_over: false,
        });
        let head = head_in(state);
        let next = next_of(&head, State::Starting, claim);
        let expected = match state {
            State::Deleting => Some(ErrorKind::InvalidState),
            _ if state.is_live() => Some(ErrorKind::Conflict),
            _ => None,
        };
        assert_eq!(
            kind_of(check_append(Some(&head), &next)),
            expected,
            "{state}"
        );
    }
}

#[test]
fn the_first_record_is_a_claim_a_creation_a_save_or_settings() {
    let first =
        |state, body: Body| kind_of(check_append(None, &following(None, OWNER, 1, state, body)));
    assert_eq!(first(State::Starting, body_of(Step::Claim)), None);
    assert_eq!(first(State::Stopped, state_body()), None);
    assert_eq!(first(State::None, body_of(Step::OneShot)), None);
    assert_eq!(first(State::None, settings()), None);
    assert_eq!(first(State::Deleting, body_of(Step::Delete)), None);
    let invalid = Some(ErrorKind::InvalidState);
    assert_eq!(first(State::Running, state_body()), invalid);
    assert_eq!(first(State::None, body_of(Step::Session)), invalid);
    assert_eq!(first(State::Stopped, body_of(Step::OneShot)), invalid);
    for body in keeping() {
        let may_come_first = matches!(body.kind(), Kind::Settings | Kind::Rescue);
        let kind = body.kind();
        assert_eq!(first(State::None, body).is_none(), may_come_first, "{kind}");
    }
    let late = following(None, OWNER, 2, State::Starting, body_of(Step::Claim));
    assert_eq!(kind_of(check_append(None, &late)), invalid);
    let mut third = following(None, OWNER, 1, State::Starting, body_of(Step::Claim));
    third.seq = 3;
    third.parent = Some(CommitId([3; 16]));
    assert_eq!(
        kind_of(check_append(None, &third)),
        Some(ErrorKind::Conflict)
    );
}

#[test]
fn epochs_fence() {
    let head = head_in(State::Running);
    let with_epoch = |state, body: Body, epoch| {
        let mut next = next_of(&head, state, body);
        next.epoch = epoch;
        kind_of(check_append(Some(&head), &next))
    };
    let fenced = Some(ErrorKind::Fenced);
    let conflict = Some(ErrorKind::Conflict);
    let invalid = Some(ErrorKind::InvalidState);
    let cases = [
        (
            State::Running,
            body_of(Step::Session),
            fenced,
            None,
            invalid,
        ),
        (State::Stopping, state_body(), fenced, None, invalid),
        (State::Running, settings(), conflict, None, invalid),
        (
            State::Deleting,
            body_of(Step::Delete),
            conflict,
            None,
            invalid,
        ),
        (State::Stopped, body_of(Step::OneShot), fenced, fenced, None),
        (
            State::Starting,
            body_of(Step::Claim),
            conflict,
            conflict,
            None,
        ),
    ];
    for (state, body, below, same, above) in cases {
        let kind = body.kind();
        assert_eq!(with_epoch(state, body.clone(), EPOCH - 1), below, "{kind}");
        assert_eq!(with_epoch(state, body.clone(), EPOCH), same, "{kind}");
        assert_eq!(with_epoch(state, body.clone(), EPOCH + 1), above, "{kind}");
        assert_eq!(with_epoch(state, body, EPOCH + 2), invalid, "{kind}");
    }
}

#[test]
fn only_the_owner_writes_for_a_session() {
    let mut head = head_in(State::Running);
    let by_other = |head: &Record, state, body| {
        let mut next = next_of(head, state, body);
        next.writer = WriterId([OTHER; 16]);
        next
    };
    let fenced = Some(ErrorKind::Fenced);
    let snapshot = by_other(&head, State::Running, body_of(Step::Session));
    assert_eq!(kind_of(check_append(Some(&head), &snapshot)), fenced);
    let stop = by_other(&head, State::Stopping, state_body());
    assert_eq!(kind_of(check_append(Some(&head), &stop)), fenced);
    // Settings by somebody else hide the owner from the head; the log still knows it.
    head.body = settings();
    head.writer = WriterId([7; 16]);
    assert_eq!(kind_of(check_append(Some(&head), &snapshot)), None);
    let owned = |next| kind_of(check_append_owned(Some(&head), owner(), next));
    assert_eq!(owned(&snapshot), fenced);
    assert_eq!(
        owned(&next_of(&head, State::Running, body_of(Step::Session))),
        None
    );
    // A comment on a notebook at rest may come from anybody, the end of a failed sync may not.
    let rest = head_in(State::Stopped);
    let comment = by_other(&rest, State::Stopped, state_body());
    assert_eq!(
        kind_of(check_append_owned(Some(&rest), None, &comment)),
        None
    );
    let failed = head_in(State::SyncFailed);
    let good = by_other(&failed, State::Stopped, state_body());
    assert_eq!(
        kind_of(check_append_owned(Some(&failed), owner(), &good)),
        fenced
    );
    // After a one-shot save nobody owns the epoch.
    let mut one_shot = head_in(State::SyncFailed);
    one_shot.body = Body::Snapshot(numbered_snapshot(2, true));
    let session = next_of(&one_shot, State::SyncFailed, body_of(Step::Session));
    assert_eq!(kind_of(check_append(Some(&one_shot), &session)), fenced);
}

#[test]
fn nothing_follows_a_purge() {
    let mut head = head_in(State::Deleting);
    head.body = body_of(Step::Purge);
    (head.head, head.index, head.settings) = (None, None, None);
    let bodies = Step::ALL.into_iter().map(body_of).chain(keeping());
    for body in bodies {
        let next = next_of(&head, State::Deleting, body);
        let kind = kind_of(check_append(Some(&head), &next));
        assert_eq!(kind, Some(ErrorKind::InvalidState), "{}", next.kind());
    }
}

#[test]
fn seq_parent_and_repository_continue() {
    let head = head_in(State::Running);
    let next = next_of(&head, State::Running, body_of(Step::Session));
    let with = |change: fn(&mut Record)| {
        let mut next = next.clone();
        change(&mut next);
        kind_of(check_append(Some(&head), &next))
    };
    assert_eq!(with(|r| r.seq += 1), Some(ErrorKind::Conflict));
    assert_eq!(with(|r| r.parent = None), Some(ErrorKind::Conflict));
    assert_eq!(
        with(|r| r.parent = Some(CommitId([0; 16]))),
        Some(ErrorKind::Conflict)
    );
    assert_eq!(
        with(|r| r.repository = RepositoryId([0; 16])),
        Some(ErrorKind::InvalidState)
    );
    // A fenced writer learns that it is fenced, not only that it came late.
    let late = |r: &mut Record| {
        r.seq -= 1;
        r.epoch -= 1;
    };
    assert_eq!(with(late), Some(ErrorKind::Fenced));
}

#[test]
fn kinds_change_only_what_is_theirs() {
    let bodies = Step::ALL.into_iter().map(body_of).chain(keeping());
    for body in bodies {
        let kind = body.kind();
        let step = Step::of(&body);
        let from = match step {
            Some(Step::Purge) => State::Deleting,
            _ => State::Running,
        };
        let to = step.map_or(from, |step| next_states(step, from)[0]);
        let head = head_in(from);
        let legal = |change: fn(&mut Record)| {
            let mut next = next_of(&head, to, body.clone());
            change(&mut next);
            check_append(Some(&head), &next).is_ok()
        };
        assert!(legal(|_| {}), "{kind}");
        let moves_index = [
            Kind::Snapshot,
            Kind::Rescue,
            Kind::Repack,
            Kind::Mark,
            Kind::Cancel,
        ];
        assert_eq!(
            legal(|r| r.head = None),
            kind == Kind::Snapshot || step == Some(Step::Purge),
            "{kind}"
        );
        assert_eq!(
            legal(|r| r.index = Some(place(99))),
            moves_index.contains(&kind),
            "{kind}"
        );
        assert_eq!(
            legal(|r| r.settings = Some(place(99))),
            kind == Kind::Settings,
            "{kind}"
        );
    }
}

#[test]
fn a_lost_slot_is_answered_as_the_protocol_says() {
    use AfterLoss::{Conflict, Fenced, Purged, Recompute, Retry};
    let head = head_in(State::Running);
    let by = |writer: u8, body: Body| {
        let mut next = next_of(&head, State::Running, body);
        next.writer = WriterId([writer; 16]);
        next
    };
    let session = || body_of(Step::Session);
    let mut bystanders = keeping();
    bystanders.push(state_body());
    // winner, then what becomes of a pending snapshot, claim, state, mark, settings
    let mut cases = vec![
        (
            by(OTHER, body_of(Step::Claim)),
            [Fenced, Conflict, Fenced, Recompute, Retry],
        ),
        (
            by(OTHER, body_of(Step::OneShot)),
            [Fenced, Conflict, Fenced, Recompute, Retry],
        ),
        (
            by(OTHER, session()),
            [Fenced, Retry, Retry, Recompute, Retry],
        ),
        (
            by(OWNER, session()),
            [Retry, Retry, Retry, Recompute, Retry],
        ),
        (
            by(OTHER, body_of(Step::Delete)),
            [Fenced, Conflict, Fenced, Recompute, Retry],
        ),
        (by(OTHER, body_of(Step::Purge)), [Purged; 5]),
    ];
    for body in bystanders {
        cases.push((by(OTHER, body), [Retry, Retry, Retry, Recompute, Retry]));
    }
    for (winner, expected) in cases {
        let pending = [
            session(),
            body_of(Step::Claim),
            state_body(),
            keeping().remove(4),
            settings(),
        ];
        let found = pending.map(|body| after_loss(&by(OWNER, body), &winner));
        assert_eq!(found, expected, "lost to {}", winner.kind());
    }
    let delete = by(OWNER, body_of(Step::Delete));
    assert_eq!(
        after_loss(&delete, &by(OTHER, body_of(Step::Claim))),
        Conflict
    );
}
