//! The names of the common fields that a setting may have.

use crate::Input;
use crate::input::Length;

/// A common field of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingName {
    /// What is to be seen.
    Prompt,
    /// What is not.
    NegativePrompt,
    /// Makes a repetition come out alike.
    Seed,
    /// How long it plays.
    Duration,
    /// `16:9`.
    AspectRatio,
    /// `720p`.
    Resolution,
    /// `1280x720`.
    Size,
    /// Whether it has sound.
    Audio,
    /// Frames a second.
    Fps,
    /// How many outputs are made.
    Outputs,
}

impl SettingName {
    /// Every name.
    pub const ALL: [Self; 10] = [
        Self::Prompt,
        Self::NegativePrompt,
        Self::Seed,
        Self::Duration,
        Self::AspectRatio,
        Self::Resolution,
        Self::Size,
        Self::Audio,
        Self::Fps,
        Self::Outputs,
    ];

    /// As it is called in an entry, in a price's rows and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::NegativePrompt => "negative_prompt",
            Self::Seed => "seed",
            Self::Duration => "duration",
            Self::AspectRatio => "aspect_ratio",
            Self::Resolution => "resolution",
            Self::Size => "size",
            Self::Audio => "audio",
            Self::Fps => "fps",
            Self::Outputs => "outputs",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// Its path in a request: `input.settings.duration`.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Prompt | Self::NegativePrompt | Self::Seed => format!("input.{}", self.as_str()),
            _ => format!("input.settings.{}", self.as_str()),
        }
    }

    /// What an input says of it, as text: `8s`, `auto`, `16:9`, `true`, `24`.
    pub(crate) fn text_in(self, input: &Input) -> Option<String> {
        let settings = &input.settings;
        match self {
            Self::Prompt => Some(input.prompt.clone()).filter(|prompt| !prompt.is_empty()),
            Self::NegativePrompt => input.negative_prompt.clone(),
            Self::Seed => input.seed.map(|seed| seed.to_string()),
            Self::Duration => settings.length.map(|length| match length {
                Length::Auto => AUTO.to_owned(),
                Length::Milliseconds(ms) => seconds_text(ms),
            }),
            Self::AspectRatio => settings.aspect_ratio.clone(),
            Self::Resolution => settings.resolution.clone(),
            Self::Size => settings.size.clone(),
            Self::Audio => settings.audio.map(|audio| audio.to_string()),
            Self::Fps => settings.fps.map(|fps| fps.to_string()),
            Self::Outputs => settings.outputs.map(|outputs| outputs.to_string()),
        }
    }

    /// Puts a text into an input. What has not the setting's form leaves it as it was.
    pub(crate) fn put(self, text: &str, input: &mut Input) {
        let settings = &mut input.settings;
        match self {
            Self::Prompt => text.clone_into(&mut input.prompt),
            Self::NegativePrompt => input.negative_prompt = Some(text.to_owned()),
            Self::Seed => input.seed = text.parse().ok().or(input.seed),
            Self::Duration if text == AUTO => settings.length = Some(Length::Auto),
            Self::Duration => settings.length = milliseconds(text).map(Length::Milliseconds).or(settings.length),
            Self::AspectRatio => settings.aspect_ratio = Some(text.to_owned()),
            Self::Resolution => settings.resolution = Some(text.to_owned()),
            Self::Size => settings.size = Some(text.to_owned()),
            Self::Audio => settings.audio = text.parse().ok().or(settings.audio),
            Self::Fps => settings.fps = text.parse().ok().or(settings.fps),
            Self::Outputs => settings.outputs = text.parse().ok().or(settings.outputs),
        }
    }
}

/// What leaves a value to the model.
pub(crate) const AUTO: &str = "auto";

/// `8s`, `7.5s`.
pub(crate) fn seconds_text(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The milliseconds of `8s` or `7.5s`, to the nearest.
pub(crate) fn milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let ms = (seconds * 1_000.0).round();
    (0.0..1e12).contains(&ms).then_some(ms as u64)
}
