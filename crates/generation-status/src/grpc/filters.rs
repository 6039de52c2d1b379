//! What a listing of generations is restricted to, as a request says it.

use chassis::fields::Fields;
use chassis::text::is_one_line;
use domain::generation::State;
use prost_types::Timestamp;
use proto::generations::v1 as api;
use time::OffsetDateTime;

use super::fields::{MAX_END_USER_CHARACTERS, parse_model};
use crate::model::Filter;

/// How many labels one listing may ask for.
const MAX_LABELS: usize = 8;
/// Of a key and of a value; no label has longer ones.
const MAX_LABEL_CHARACTERS: usize = 200;

/// The restrictions of a request; none where it has none.
pub(super) fn parse(fields: &mut Fields, request: &api::ListGenerationsRequest) -> Option<Filter> {
    let states = fields.each("states", &request.states, 0, State::ALL.len(), |number| {
        let state = i16::try_from(*number).ok().and_then(State::from_number);
        state.ok_or("must be a state, and not STATE_UNSPECIFIED")
    });
    let model = match request.model.as_str() {
        "" => Some(None),
        name => fields.take("model", parse_model(name)).map(Some),
    };
    let end_user = match request.end_user.as_str() {
        "" => Some(None),
        name => fields.line("end_user", name.to_owned(), MAX_END_USER_CHARACTERS).map(Some),
    };
    let right = |text: &str| text.chars().count() <= MAX_LABEL_CHARACTERS && is_one_line(text);
    let labels =
        request.labels.len() <= MAX_LABELS && request.labels.iter().all(|(key, value)| right(key) && right(value));
    if !labels {
        let should =
            format_args!("must be at most {MAX_LABELS}, in one line of at most {MAX_LABEL_CHARACTERS} characters each");
        fields.wrong("labels", should);
    }
    let from = parse_time(fields, "create_time_from", request.create_time_from.as_ref());
    let until = parse_time(fields, "create_time_until", request.create_time_until.as_ref());
    let (((mut states, model), end_user), (from, until)) = states.zip(model).zip(end_user).zip(from.zip(until))?;
    states.sort_unstable_by_key(|state| state.number());
    states.dedup();
    labels.then(|| Filter {
        states,
        model,
        from,
        until,
        labels: request.labels.clone().into_iter().collect(),
        end_user,
    })
}

fn parse_time(fields: &mut Fields, field: &str, time: Option<&Timestamp>) -> Option<Option<OffsetDateTime>> {
    let Some(time) = time else { return Some(None) };
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    // PostgreSQL has no times before the year -4713 or so, and none of ours is older than this century.
    let read = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|time| (2000..9999).contains(&time.year()));
    if read.is_none() {
        fields.wrong(field, "must be a time between the years 2000 and 9999");
    }
    read.map(Some)
}
