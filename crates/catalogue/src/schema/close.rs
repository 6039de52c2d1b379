//! Closes a schema: every object that declares properties takes no others.

use serde_json::Value;

/// Schemas below these keywords each describe a value of their own.
const ONE: [&str; 2] = ["items", "additionalProperties"];
const LISTS: [&str; 3] = ["anyOf", "oneOf", "prefixItems"];
const TABLES: [&str; 3] = ["properties", "$defs", "definitions"];

/// Closes what is open. Conditions (`if`, `not`, `allOf`) stay as they are: each sees only a part of the object.
pub(super) fn close(schema: &mut Value, at: &str) -> Result<(), String> {
    let Some(fields) = schema.as_object_mut() else { return Ok(()) };
    if fields.contains_key("properties") {
        match fields.get("additionalProperties") {
            None => drop(fields.insert("additionalProperties".to_owned(), Value::Bool(false))),
            Some(Value::Bool(true)) => {
                let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
                return Err(format!("must not have additionalProperties = true{place}"));
            }
            Some(_) => {}
        }
    }
    for keyword in ONE {
        if let Some(inner) = fields.get_mut(keyword) {
            close(inner, &format!("{at}/{keyword}"))?;
        }
    }
    for keyword in LISTS {
        for (n, inner) in fields.get_mut(keyword).and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            close(inner, &format!("{at}/{keyword}/{n}"))?;
        }
    }
    for keyword in TABLES {
        for (name, inner) in fields.get_mut(keyword).and_then(Value::as_object_mut).into_iter().flatten() {
            close(inner, &format!("{at}/{keyword}/{name}"))?;
        }
    }
    Ok(())
}
