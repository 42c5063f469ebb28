// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks one broker after the other. A proxy in front of one, or a release that lacks a request, must not keep a node from the other one.

use std::time::Duration;

use super::{ClientError, FORBIDDEN};

/// Sends a request to the broker with the index `first`, and to the others after it until one gives an answer that can be used. Returns
/// its index, too.
///
/// A broker that says that it does not know this node ends it, because the caller may enrol there. With `refused` it has tried that in
/// vain: then the broker of that refusal is left out, and the refusals of the others end nothing. `left` is the time that is left for all.
///
/// # Errors
/// [`ClientError`]: if there are several brokers, what each of them did.
pub(super) fn in_turn<T>(
    brokers: &[String],
    first: usize,
    refused: Option<ClientError>,
    left: &dyn Fn() -> Option<Duration>,
    mut send: impl FnMut(&str, Duration) -> Result<T, ClientError>,
) -> Result<(usize, T), ClientError> {
    let may_enrol = refused.is_none();
    let mut failures: Vec<ClientError> = refused.into_iter().collect();
    let left_out = failures.first().and_then(broker_of).map(str::to_owned);
    let (before, from) = brokers.split_at(first.min(brokers.len()));
    let order = from.iter().chain(before).enumerate();
    let order = order.filter(|(_, broker)| left_out.as_deref() != Some(broker.as_str()));
    for (step, broker) in order {
        // A broker that hangs must leave time for those after it.
        let parts = u32::try_from(brokers.len().saturating_sub(step)).unwrap_or(1).max(1);
        let Some(left) = left() else {
            let reason = "there was no time left".to_owned();
            failures.push(ClientError::Unreachable { broker: broker.clone(), reason });
            continue;
        };
        match send(broker, left / parts) {
            Ok(answer) => {
                let index = brokers.iter().position(|other| other == broker).unwrap_or(first);
                return Ok((index, answer));
            }
            Err(refusal @ ClientError::Refused { status: FORBIDDEN, .. }) if may_enrol => return Err(refusal),
            Err(failure) => failures.push(failure),
        }
    }
    match failures.pop() {
        Some(only) if failures.is_empty() => Err(only),
        Some(last) => {
            failures.push(last);
            Err(ClientError::All(failures))
        }
        None => Err(ClientError::Settings("no broker is named".to_owned())),
    }
}

fn broker_of(failure: &ClientError) -> Option<&str> {
    match failure {
        ClientError::Unreachable { broker, .. }
        | ClientError::Refused { broker, .. }
        | ClientError::Foreign { broker, .. }
        | ClientError::Answer(broker)
        | ClientError::TooLong(broker) => Some(broker),
        ClientError::Settings(_) | ClientError::NotEnrolled(_) | ClientError::All(_) => None,
    }
}

/// What several brokers did, as a part of a sentence.
pub(super) fn told(failures: &[ClientError]) -> String {
    let of = |failure: &ClientError| match failure {
        ClientError::Unreachable { broker, reason } => format!("{broker} ({reason})"),
        ClientError::Refused { broker, status, reason, .. } => format!("{broker} ({status}: {reason})"),
        ClientError::Foreign { broker, status } => format!("{broker} ({status}, but not as a broker answers)"),
        ClientError::Answer(broker) => format!("{broker} (an answer that cannot be read)"),
        ClientError::TooLong(broker) => format!("{broker} (an answer that is too long)"),
        other => other.to_string(),
    };
    failures.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn brokers() -> Vec<String> {
        ["b1", "b2", "b3"].map(str::to_owned).to_vec()
    }

    fn away(broker: &str) -> ClientError {
        ClientError::Unreachable { broker: broker.to_owned(), reason: "timed out".to_owned() }
    }

    fn refused(broker: &str, status: u16) -> ClientError {
        ClientError::Refused { broker: broker.to_owned(), status, reason: "no".to_owned(), wait: None }
    }

    /// Who was asked, and the outcome, if each broker but the last one fails in this way.
    fn asked(first: usize, failure: &dyn Fn(&str) -> ClientError) -> (Vec<String>, Result<usize, ClientError>) {
        let mut asked = Vec::new();
        let outcome = in_turn(&brokers(), first, None, &|| Some(SECOND), |broker, _| {
            asked.push(broker.to_owned());
            if asked.len() < 3 { Err(failure(broker)) } else { Ok(()) }
        });
        (asked, outcome.map(|(index, ())| index))
    }

    #[test]
    fn the_next_broker_is_asked_after_any_answer_that_cannot_be_used() {
        let foreign = |broker: &str| ClientError::Foreign { broker: broker.to_owned(), status: 404 };
        let failures: [&dyn Fn(&str) -> ClientError; 7] = [
            &away,
            &foreign,
            &|broker: &str| ClientError::Answer(broker.to_owned()),
            &|broker: &str| ClientError::TooLong(broker.to_owned()),
            &|broker: &str| refused(broker, 404),
            &|broker: &str| refused(broker, 400),
            &|broker: &str| refused(broker, 503),
        ];
        for failure in failures {
            assert_eq!(asked(1, failure), (vec!["b2".into(), "b3".into(), "b1".into()], Ok(0)), "{}", failure("b"));
        }
    }

    #[test]
    fn a_broker_that_does_not_know_the_node_is_told_at_once_and_left_out_if_it_cannot_enrol() {
        let unknown = |broker: &str| refused(broker, FORBIDDEN);
        assert_eq!(asked(1, &unknown), (vec!["b2".into()], Err(unknown("b2"))));
        let mut asked = Vec::new();
        let outcome = in_turn(&brokers(), 0, Some(unknown("b1")), &|| Some(SECOND), |broker, _| {
            asked.push(broker.to_owned());
            if broker == "b3" { Ok(7) } else { Err(unknown(broker)) }
        });
        assert_eq!((asked, outcome), (vec!["b2".to_owned(), "b3".to_owned()], Ok((2, 7))));
    }

    #[test]
    fn when_all_have_failed_one_sentence_says_what_each_of_them_did() {
        let of_b2 = "this broker does not know the request; it may be of an older version";
        let outcome = in_turn::<()>(&brokers(), 0, None, &|| Some(SECOND), |broker, _| {
            Err(match broker {
                "b1" => read::<()>(broker, 404, b"<html>Not Found</html>").unwrap_err(),
                "b2" => read::<()>(broker, 404, format!("{{\"error\": \"{of_b2}\"}}").as_bytes()).unwrap_err(),
                _ => read::<()>(broker, 200, b"<html>Welcome</html>").unwrap_err(),
            })
        });
        let expected = format!(
            "no broker gave an answer that can be used: b1 (404, but not as a broker answers), b2 (404: {of_b2}), \
             b3 (an answer that cannot be read)"
        );
        assert_eq!(outcome.unwrap_err().to_string(), expected);
        let busy = read::<()>("b1", 429, b"{\"error\": \"busy\", \"wait\": 500}").unwrap_err();
        assert!(matches!(busy, ClientError::Refused { wait: Some(wait), .. } if wait == SECOND / 2), "{busy}");
        let alone = in_turn::<()>(&["b1".to_owned()], 0, None, &|| Some(SECOND), |broker, _| Err(away(broker)));
        assert_eq!(alone, Err(away("b1")));
    }

    #[test]
    fn each_broker_has_its_part_of_the_time_and_one_that_has_none_is_named() {
        let mut parts = Vec::new();
        let told = in_turn::<()>(&brokers(), 0, None, &|| Some(SECOND * 6), |broker, patience| {
            parts.push(patience.as_secs());
            Err(away(broker))
        });
        assert_eq!((parts, told), (vec![2, 3, 6], Err(ClientError::All(["b1", "b2", "b3"].map(away).to_vec()))));
        let none = in_turn::<()>(&brokers(), 0, None, &|| None, |broker, _| Err(away(broker))).unwrap_err();
        assert!(none.to_string().ends_with("b3 (there was no time left)"), "{none}");
    }
}
