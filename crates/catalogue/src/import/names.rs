//! The names that providers give to the same things.

use crate::Role;

/// The names of the common settings, the most usual first.
pub(super) const SETTINGS: [(&str, &[&str]); 9] = [
    (
        "prompt",
        &["prompt", "text", "text_prompt", "text_input", "promptText", "positivePrompt", "script", "input_text"],
    ),
    ("negative_prompt", &["negative_prompt", "negativePrompt"]),
    ("seed", &["seed"]),
    (
        "duration",
        &[
            "duration",
            "duration_seconds",
            "durationSeconds",
            "video_length",
            "seconds",
            "length",
            "seconds_total",
            "music_length_ms",
            "duration_ms",
        ],
    ),
    ("aspect_ratio", &["aspect_ratio", "aspectRatio", "ratio"]),
    ("resolution", &["resolution", "video_resolution"]),
    (
        "audio",
        &["generate_audio", "generate_audio_switch", "enable_audio", "with_audio", "add_audio", "sound", "audio"],
    ),
    ("fps", &["fps", "frames_per_second", "frame_rate", "framerate", "output_fps", "export_fps"]),
    ("outputs", &["num_outputs", "num_videos", "num_images", "number_of_videos", "numberOfVideos", "num_samples"]),
];

/// The names of a text that is spoken, before those of a prompt.
pub(super) const SPOKEN: [&str; 5] = ["text", "input_text", "script", "text_input", "prompt"];

/// The names of a length that is counted in frames.
pub(super) const FRAMES: [&str; 4] = ["num_frames", "number_of_frames", "video_frames", "frame_num"];

/// The names of a size.
pub(super) const SIZES: [&str; 5] = ["size", "video_size", "image_size", "dimensions", "output_size"];

/// Words that come last in names of roles, by role; `image` alone is of what the model does with it.
const ROLES: [(Role, &[&str]); 6] = [
    (
        Role::FirstFrame,
        &[
            "start_image",
            "first_frame",
            "first_image",
            "first_frame_image",
            "start_frame",
            "init_image",
            "image",
            "input_image",
            "source_image",
            "img",
        ],
    ),
    (
        Role::LastFrame,
        &[
            "end_image",
            "last_frame",
            "last_frame_image",
            "last_image",
            "tail_image",
            "image_tail",
            "end_frame",
            "end_frame_image",
            "final_image",
        ],
    ),
    (
        Role::Reference,
        &[
            "reference_image",
            "reference_images",
            "ref_image",
            "ref_images",
            "input_images",
            "images",
            "reference",
            "references",
            "subject_reference",
            "subject_reference_image",
            "subject_image",
            "subject_images",
            "character_image",
            "reference_video",
            "reference_videos",
            "reference_pose_video",
            "style_image",
        ],
    ),
    (
        Role::Source,
        &[
            "video",
            "source_video",
            "input_video",
            "original_video",
            "base_video",
            "first_clip",
            "videos",
            "input_videos",
        ],
    ),
    (
        Role::Audio,
        &[
            "audio",
            "driven_audio",
            "input_audio",
            "reference_audio",
            "reference_audios",
            "audio_file",
            "audios",
            "voice_audio",
            "speech_audio",
        ],
    ),
    (Role::Mask, &["mask", "mask_image", "mask_video", "static_mask", "inpaint_mask"]),
];

/// Endings that say that a text is an address.
const ADDRESSES: [&str; 6] = ["_url", "_urls", "_uri", "_uris", "Url", "Uri"];

/// Words of addresses of what is no picture, video or sound.
const NO_MEDIA: [&str; 12] = [
    "lora",
    "weight",
    "model",
    "checkpoint",
    "path",
    "webhook",
    "callback",
    "config",
    "script",
    "embedding",
    "repo",
    "link",
];

/// A name without the ending that says that it is an address.
pub(super) fn stem(name: &str) -> &str {
    ADDRESSES.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Whether a name says that it is an address.
pub(super) fn is_address(name: &str) -> bool {
    stem(name) != name || is_bare(name)
}

/// Whether a name says that it is an address, and not of what.
pub(super) fn is_bare(name: &str) -> bool {
    ["url", "uri", "urls"].contains(&name)
}

/// Whether a name is of an address of what is no picture, video or sound.
pub(super) fn is_no_medium(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NO_MEDIA.iter().any(|word| name.contains(word))
}

/// The role that a name tells; of several files, `image` is a reference.
pub(super) fn role(name: &str, several: bool) -> Option<Role> {
    let stem = stem(name).to_ascii_lowercase();
    let role = ROLES.iter().find(|(_, names)| names.contains(&stem.as_str())).map(|(role, _)| *role)?;
    Some(if several && role == Role::FirstFrame { Role::Reference } else { role })
}

/// How well a name fits a role: of several, the lowest has it.
pub(super) fn rank(name: &str, role: Role) -> usize {
    let stem = stem(name).to_ascii_lowercase();
    let names = ROLES.iter().find(|(of, _)| *of == role).map_or(&[][..], |(_, names)| names);
    names.iter().position(|name| *name == stem).unwrap_or(usize::MAX)
}

/// Why a field of this name is not offered, if it is not.
pub(super) fn hidden(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if lower == "sync_mode" {
        return Some("the answer would hold the file itself");
    }
    if has(&["webhook", "callback"]) {
        return Some("Rushes hears of the end by itself, and tells it by webhooks of its own");
    }
    if has(&["safety_checker", "safety_tolerance", "safety_filter", "disable_safety", "content_filter"]) {
        return Some("whether the provider checks for safety is the operator's to decide");
    }
    if has(&["api_key", "apikey", "access_token", "secret"]) {
        return Some("a secret does not belong into an order");
    }
    if ["video_output_type", "video_codec", "output_codec"].contains(&lower.as_str()) {
        return Some("not every format can be shown");
    }
    None
}
