//! One property of a schema, with its alternatives laid out flat.

use serde_json::{Map, Value};

/// How deep references and alternatives may lie in each other.
const MAX_DEPTH: usize = 12;

/// A property: what it is when left out, and the alternatives of which its value is one.
#[derive(Clone, Debug)]
pub struct Property<'a> {
    root: &'a Value,
    outer: &'a Value,
    alternatives: Vec<&'a Map<String, Value>>,
}

/// The limits of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) integer: bool,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Values are multiples of this.
    pub(crate) step: Option<f64>,
}

/// Whether two JSON values are the same, `5` and `5.0` as well.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

impl<'a> Property<'a> {
    pub(super) fn new(root: &'a Value, outer: &'a Value) -> Self {
        let mut alternatives = Vec::new();
        flatten(root, outer, MAX_DEPTH, &mut alternatives);
        Self { root, outer, alternatives }
    }

    /// What it is when left out, where the schema says it.
    #[must_use]
    pub fn default(&self) -> Option<&'a Value> {
        let inner = || self.alternatives.iter().find_map(|of| of.get("default"));
        self.outer.get("default").or_else(inner).filter(|value| !value.is_null())
    }

    /// What it is for.
    #[must_use]
    pub fn description(&self) -> &'a str {
        self.outer.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// The alternatives but `null`, each without alternatives of its own.
    #[must_use]
    pub fn alternatives(&self) -> &[&'a Map<String, Value>] {
        &self.alternatives
    }

    /// Whether a value may be of this type.
    #[must_use]
    pub fn has_type(&self, name: &str) -> bool {
        self.alternatives.iter().any(|of| is_type(of, name))
    }

    /// All values that it may have, where they are listed; `true` and `false` of a truth value.
    #[must_use]
    pub fn values(&self) -> Option<Vec<Value>> {
        let mut all = Vec::new();
        for of in &self.alternatives {
            if is_type(of, "boolean") {
                all.extend([Value::Bool(true), Value::Bool(false)]);
            } else {
                all.extend(enumerated(of)?.into_iter().cloned());
            }
        }
        (!all.is_empty()).then_some(all)
    }

    /// What the entries of a list are.
    #[must_use]
    pub fn items(&self) -> Option<Property<'a>> {
        let items = self.alternatives.iter().find_map(|of| of.get("items"))?;
        Some(Property::new(self.root, items))
    }

    /// The largest number of entries of a list, where the schema says it.
    #[must_use]
    pub fn max_items(&self) -> Option<u64> {
        self.alternatives.iter().find_map(|of| of.get("maxItems")).and_then(Value::as_u64)
    }

    /// A field of an object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Property<'a>> {
        let field = self.alternatives.iter().find_map(|of| of.get("properties")?.get(name))?;
        Some(Property::new(self.root, field))
    }

    /// Whether some alternative is a whole number.
    pub(super) fn has_integers(&self) -> bool {
        self.alternatives.iter().any(|of| {
            is_type(of, "integer") || enumerated(of).is_some_and(|values| values.iter().any(|value| value.is_i64()))
        })
    }
}

fn flatten<'a>(root: &'a Value, schema: &'a Value, depth: usize, into: &mut Vec<&'a Map<String, Value>>) {
    let (Some(fields), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return };
    let target = fields.get("$ref").and_then(Value::as_str).and_then(|name| root.pointer(name.strip_prefix('#')?));
    if let Some(target) = target {
        return flatten(root, target, depth, into);
    }
    let inner = ["anyOf", "oneOf", "allOf"].iter().find_map(|keyword| fields.get(*keyword)?.as_array());
    match inner {
        // `{type: object, properties, anyOf: [{required}, …]}` is one alternative, with a condition.
        Some(inner) if !fields.contains_key("type") && !fields.contains_key("properties") => {
            for schema in inner {
                flatten(root, schema, depth, into);
            }
        }
        _ if fields.get("type").and_then(Value::as_str) == Some("null") => {}
        _ => into.push(fields),
    }
}

/// Whether an alternative's values may be of a type. Without `type` its listed values tell.
pub(crate) fn is_type(of: &Map<String, Value>, name: &str) -> bool {
    match of.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => enumerated(of).is_some_and(|values| values.iter().any(|value| type_of(value) == name)),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The values of an `enum` or a `const`, `null` left out.
pub(crate) fn enumerated(of: &Map<String, Value>) -> Option<Vec<&Value>> {
    let values = match (of.get("enum"), of.get("const")) {
        (Some(Value::Array(values)), _) => values.iter().collect(),
        (_, Some(value)) => vec![value],
        _ => return None,
    };
    Some(values.into_iter().filter(|value| !value.is_null()).collect())
}

impl Limits {
    /// The limits of an alternative that is a number.
    pub(crate) fn of(of: &Map<String, Value>) -> Self {
        let number = |name: &str| of.get(name).and_then(Value::as_f64);
        let integer = is_type(of, "integer") && !is_type(of, "number");
        let above = number("exclusiveMinimum").map(|limit| if integer { limit.floor() + 1.0 } else { limit });
        let below = number("exclusiveMaximum").map(|limit| if integer { limit.ceil() - 1.0 } else { limit });
        Self {
            integer,
            min: number("minimum").into_iter().chain(above).reduce(f64::max),
            max: number("maximum").into_iter().chain(below).reduce(f64::min),
            step: number("multipleOf").filter(|step| !(integer && *step == 1.0)),
        }
    }

    /// Whether a number is within them.
    pub(crate) fn admit(&self, number: f64) -> bool {
        let multiple = |step: f64| {
            let times = number / step;
            (times - times.round()).abs() < 1e-9
        };
        number.is_finite()
            && self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.step.is_none_or(multiple)
            && (!self.integer || number.fract() == 0.0)
    }
}
