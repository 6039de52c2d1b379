//! The fields that an update changes: those whose option was given.

use anyhow::Result;
use prost_types::FieldMask;

use crate::failure::{Exit, Failure};

/// The mask of an update. `fields` are all that could change, each with whether its option was given. Without any the command
/// is refused, since a mask of no field leaves to the server what is meant.
pub(crate) fn of(fields: &[(&str, bool)]) -> Result<FieldMask> {
    let paths: Vec<_> = fields.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()).collect();
    if paths.is_empty() {
        let options: Vec<_> = fields.iter().map(|(path, _)| format!("--{path}")).collect();
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
        assert_eq!(of(&[("title", true), ("script", false)]).unwrap().paths, ["title"]);
        let refused = of(&[("title", false), ("script", false)]).unwrap_err().to_string();
        assert!(refused.contains("--title, --script"), "{refused}");
    }
}
