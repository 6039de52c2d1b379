//! The fields that an update changes: those whose option was given.

use anyhow::Result;
use prost_types::FieldMask;

use crate::failure::{Exit, Failure};

/// The mask of an update. `fields` are all that could change, each with its option and whether that was given. Without any the
/// command is refused, since a mask of no field leaves to the server what is meant.
pub(crate) fn of(fields: &[(&str, &str, bool)]) -> Result<FieldMask> {
    let given = fields.iter().filter(|(.., given)| *given);
    let paths: Vec<_> = given.map(|(path, ..)| (*path).to_owned()).collect();
    if paths.is_empty() {
        let options: Vec<_> = fields.iter().map(|(_, option, _)| *option).collect();
        return Err(Failure::new("nothing to change was given")
            .todo(format!("give at least one of {}", options.join(", ")))
            .exit(Exit::Usage)
            .into());
    }
    Ok(FieldMask { paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_changed_and_nothing_else() {
        let fields = |title, labels| of(&[("title", "--title", title), ("labels", "--label", labels)]);
        assert_eq!(fields(true, false).unwrap().paths, ["title"]);
        assert_eq!(fields(false, true).unwrap().paths, ["labels"]);
        let refused = fields(false, false).unwrap_err().to_string();
        assert!(refused.contains("--title, --label"), "{refused}");
    }
}
