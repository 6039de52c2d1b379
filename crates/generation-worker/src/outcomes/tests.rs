//! The table's rows, and what must hold of every pair of a phase and what came of its call.

use super::*;

fn remote() -> Context {
    let abilities = Abilities {
        idempotent_submit: false,
        find_by_key: false,
        cancel: true,
        progress: false,
        queue_position: false,
        webhook: true,
        in_process: false,
    };
    Context { abilities, cancel: false }
}

/// Every combination of what a decision depends on.
fn contexts() -> impl Iterator<Item = Context> {
    (0_u8..16).map(|bits| {
        let bit = |at: u8| bits & (1 << at) != 0;
        let mut context = Context { cancel: bit(3), ..remote() };
        context.abilities.idempotent_submit = bit(0);
        context.abilities.find_by_key = bit(1);
        context.abilities.in_process = bit(2);
        context
    })
}

/// What allows another order.
fn allows_another(decision: Decision) -> bool {
    matches!(decision, Decision::Requeue(_) | Decision::Retry(_))
}

/// The promise: another order only where no byte left, where the first sending of the order was refused, or where the provider's
/// own word or documentation is that nothing was made and nothing charged.
#[test]
fn another_order_needs_the_providers_word_that_nothing_was_made_and_charged() {
    for context in contexts().filter(|context| !context.abilities.in_process) {
        for phase in Phase::ALL {
            for outcome in CallOutcome::ALL {
                let refused = phase == Phase::Submit
                    && matches!(
                        outcome,
                        CallOutcome::NotSent
                            | CallOutcome::AccountRefused
                            | CallOutcome::ModelRefused
                            | CallOutcome::Throttled
                    );
                let refused = refused || phase == Phase::Upload;
                let documented = phase == Phase::Poll
                    && matches!(
                        outcome,
                        CallOutcome::Failed(Charge::NotCharged)
                            | CallOutcome::TimedOut(Charge::NotCharged)
                            | CallOutcome::Stopped(Charge::NotCharged)
                    );
                for clocks in [Clocks::default(), expired()] {
                    let decision = decide(phase, outcome, &context).at(&clocks);
                    let case = format!("{phase:?} {outcome:?} {context:?}: {decision:?}");
                    assert!(!allows_another(decision) || refused || documented, "{case}");
                }
            }
        }
    }
}

/// An order is sent again under its key only where that costs once.
#[test]
fn only_a_key_that_costs_once_or_a_search_confirms() {
    for context in contexts() {
        for phase in Phase::ALL {
            for outcome in CallOutcome::ALL {
                if decide(phase, outcome, &context) == Decision::Confirm {
                    let known = context.abilities.idempotent_submit
                        || (phase == Phase::Submit && context.abilities.find_by_key);
                    assert!(known, "{phase:?} {outcome:?} {context:?}");
                }
            }
        }
    }
}

fn expired() -> Clocks {
    let long = Some(OUTAGE_BOUND);
    Clocks { poll: long, order: long, output: long, storage: long }
}

#[test]
fn nothing_is_asked_again_for_ever() {
    for context in contexts() {
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Cancel) {
            for outcome in CallOutcome::ALL {
                let decision = decide(phase, outcome, &context).at(&expired());
                assert!(!matches!(decision, Decision::Again { .. }), "{phase:?} {outcome:?}: {decision:?}");
            }
        }
    }
}

/// What the provider says it has made is charged, as far as we know, whatever becomes of it here.
#[test]
fn a_made_order_ends_as_charged() {
    for phase in [Phase::Fetch, Phase::Store] {
        for outcome in CallOutcome::ALL {
            match decide(phase, outcome, &remote()).at(&expired()) {
                Decision::End(_, charge) => assert_eq!(charge, Charge::Charged, "{phase:?} {outcome:?}"),
                decision => panic!("{phase:?} {outcome:?}: {decision:?}"),
            }
        }
    }
}

#[test]
fn a_submission_is_refused_held_back_or_unconfirmed() {
    let held = |condition| Decision::Requeue(Hold::Unavailable(condition));
    for (outcome, expected) in [
        (CallOutcome::NotSent, held(Condition::Outage)),
        (CallOutcome::AccountRefused, held(Condition::AccountRefused)),
        (CallOutcome::ModelRefused, held(Condition::Misconfigured)),
        (CallOutcome::Throttled, Decision::Requeue(Hold::Throttled)),
        (CallOutcome::InputRefused, Decision::End(Reason::InputSchemaViolation, Charge::NotCharged)),
        (CallOutcome::SafetyRefused, Decision::End(Reason::SafetyInput, Charge::NotCharged)),
        (CallOutcome::Lost, Decision::Unconfirmed),
        (CallOutcome::Unavailable, Decision::Unconfirmed),
        (CallOutcome::Unreadable, Decision::Unconfirmed),
        (CallOutcome::NotFound, Decision::Unconfirmed),
    ] {
        assert_eq!(decide(Phase::Submit, outcome, &remote()), expected, "{outcome:?}");
    }
    let mut keyed = remote();
    keyed.abilities.idempotent_submit = true;
    assert_eq!(decide(Phase::Submit, CallOutcome::Lost, &keyed), Decision::Confirm);
    assert_eq!(decide(Phase::Submit, CallOutcome::AccountRefused, &keyed), held(Condition::AccountRefused));
    assert_eq!(decide(Phase::Repeat, CallOutcome::AccountRefused, &keyed), Decision::Unconfirmed, "it was sent before");
}

/// Before the intent nothing is in doubt: what comes of an input's files is never unconfirmed, and never charged.
#[test]
fn the_files_of_an_input_are_no_order() {
    for context in contexts() {
        for outcome in CallOutcome::ALL {
            let decision = decide(Phase::Upload, outcome, &context);
            let right = matches!(decision, Decision::Requeue(_) | Decision::End(_, Charge::NotCharged));
            assert!(right, "{outcome:?}: {decision:?}");
        }
    }
    let held = |condition| Decision::Requeue(Hold::Unavailable(condition));
    for (outcome, expected) in [
        (CallOutcome::FileRefused, held(Condition::Misconfigured)),
        (CallOutcome::Lost, held(Condition::Outage)),
        (CallOutcome::StorageUnavailable, Decision::Requeue(Hold::Storage)),
        (CallOutcome::InputRefused, Decision::End(Reason::InputSchemaViolation, Charge::NotCharged)),
    ] {
        assert_eq!(decide(Phase::Upload, outcome, &remote()), expected, "{outcome:?}");
    }
    let away = Trouble::new(CallOutcome::StorageUnavailable, "away");
    let failure = decide(Phase::Upload, away.outcome, &remote()).failure(&away).unwrap();
    assert_eq!((failure.class, failure.condition), (Class::Unavailable, None), "it is not the provider's");
}

#[test]
fn an_order_that_its_provider_does_not_know_is_asked_for_again_and_then_ends_once() {
    let again = decide(Phase::Poll, CallOutcome::NotFound, &remote());
    let after = |minutes: u64| Clocks { order: Some(Duration::from_secs(60 * minutes)), ..Clocks::default() };
    assert!(matches!(again.at(&Clocks::default()), Decision::Again { clock: Clock::Order, .. }));
    assert!(matches!(again.at(&after(9)), Decision::Again { .. }));
    assert_eq!(again.at(&after(10)), Decision::End(Reason::OutputUnavailable, Charge::Unknown));
    // That it could not be asked for a day says nothing about whether it knows the order.
    let unheard = Clocks { poll: Some(OUTAGE_BOUND), ..Clocks::default() };
    assert!(matches!(again.at(&unheard), Decision::Again { .. }));
}

#[test]
fn what_nobody_wants_any_more_ends_after_its_grace_as_cancelled() {
    let context = Context { cancel: true, ..remote() };
    let grace = Some(CANCEL_BOUND);
    for outcome in
        [CallOutcome::Unavailable, CallOutcome::AccountRefused, CallOutcome::Unreadable, CallOutcome::NotFound]
    {
        let again = decide(Phase::Poll, outcome, &context);
        assert!(matches!(again.at(&Clocks::default()), Decision::Again { .. }), "{outcome:?}");
        let end = again.at(&Clocks { poll: grace, order: grace, ..Clocks::default() });
        assert_eq!(end, Decision::End(Reason::Cancelled, Charge::Unknown), "{outcome:?}");
    }
}

#[test]
fn a_failure_carries_what_the_provider_said_and_what_it_says_of_its_health() {
    let evidence = crate::model::Evidence { status: Some(402), excerpt: "insufficient credit".to_owned() };
    let trouble =
        Trouble::new(CallOutcome::AccountRefused, "the provider answered 402").with_evidence(evidence.clone());
    let failure = decide(Phase::Submit, trouble.outcome, &remote()).failure(&trouble).unwrap();
    assert_eq!((failure.class, failure.charge), (Class::Unavailable, Charge::NotCharged));
    assert_eq!((failure.condition, failure.evidence), (Some(Condition::AccountRefused), evidence));
    assert_eq!(Decision::Unconfirmed.failure(&trouble), None);
}
