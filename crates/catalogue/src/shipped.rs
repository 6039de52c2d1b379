//! Entries of providers' models that ship with Rushes. A catalogue has one by its id in `use`; its provider's key is all that it needs.

/// The entries.
pub(crate) const ENTRIES: &str = include_str!("../models/shipped.toml");

/// The schema with this path.
pub(crate) fn schema(path: &str) -> Option<&'static str> {
    macro_rules! schemas {
        ($($path:literal),* $(,)?) => {
            match path {
                $($path => Some(include_str!(concat!("../models/", $path))),)*
                _ => None,
            }
        };
    }
    schemas!(
        "schemas/fal/flux-2-pro.json",
        "schemas/fal/kling-v3-pro-i2v.json",
        "schemas/fal/ltx-2.3-i2v.json",
        "schemas/fal/seedance-2.0-i2v.json",
        "schemas/fal/veo-3.1-i2v.json",
        "schemas/fal/wan-2.7-i2v.json",
        "schemas/replicate/kling-v3-video.json",
        "schemas/replicate/veo-3.1.json",
    )
}
