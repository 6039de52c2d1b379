//! The input of `rushes generate`: the settings that models share as flags of their own, media as names or files, and a model's
//! own settings as flags that its schema makes.

use std::path::Path;

use anyhow::Result;
use proto::generations::v1::media::Role;
use proto::generations::v1::{Input, Media, Settings, settings};
use proto::models::v1::Model;

use super::parameters;
use crate::client::assets;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};

/// What to make. Which of it a model takes, `rushes models show MODEL` says.
#[derive(Debug, clap::Args)]
pub(super) struct Inputs {
    /// What to show or say; as long as the model takes.
    #[arg(long, default_value = "", hide_default_value = true)]
    prompt: String,
    /// What is not to be seen.
    #[arg(long)]
    negative_prompt: Option<String>,
    /// Makes a repetition come out alike.
    #[arg(long, allow_hyphen_values = true)]
    seed: Option<i64>,
    /// How long it plays: 8s, 500ms, or auto.
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// 16:9, 9:16, …, or auto.
    #[arg(long, value_name = "W:H")]
    aspect_ratio: Option<String>,
    /// 720p, 1080p, 4k, ….
    #[arg(long)]
    resolution: Option<String>,
    /// 1280x720, instead of the two above.
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// With sound, or with =false without.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audio: Option<bool>,
    /// Frames a second.
    #[arg(long)]
    fps: Option<f64>,
    /// How many to make.
    #[arg(long, value_name = "COUNT")]
    outputs: Option<i32>,
    /// The picture that it begins with: assets/…, generations/…/outputs/0, or a file, which is uploaded.
    #[arg(long, value_name = "ASSET")]
    first_frame: Option<String>,
    /// The picture that it ends with.
    #[arg(long, value_name = "ASSET")]
    last_frame: Option<String>,
    /// A picture to go by; may be given several times.
    #[arg(long = "reference", value_name = "ASSET")]
    references: Vec<String>,
    /// What is changed, extended or enlarged; may be given several times.
    #[arg(long = "source", value_name = "ASSET")]
    sources: Vec<String>,
    /// The sound that is spoken or played; may be given several times.
    #[arg(long = "sound", value_name = "ASSET")]
    sounds: Vec<String>,
    /// Where the source is changed.
    #[arg(long, value_name = "ASSET")]
    mask: Option<String>,
    /// The model's own settings, each as a flag: --cfg-scale 0.5. `rushes models show MODEL` lists them. They come last.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "MODEL'S OWN")]
    own: Vec<String>,
}

impl Inputs {
    /// Whether there are settings that only the model's schema explains.
    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The input; files among the media are uploaded first. `model` is only needed where [`Inputs::has_own`].
    pub(super) async fn into_input(self, session: &Session, model: Option<&Model>) -> Result<Input> {
        let parameters = match model {
            Some(model) => Some(parameters::parse(&self.own, model)?),
            None => None,
        };
        let length = self.duration.as_deref().map(parse_length).transpose()?;
        let settings = Settings {
            length,
            aspect_ratio: self.aspect_ratio.unwrap_or_default(),
            resolution: self.resolution.unwrap_or_default(),
            size: self.size.unwrap_or_default(),
            audio: self.audio,
            fps: self.fps,
            outputs: self.outputs,
        };
        let named = self.first_frame.into_iter().map(|name| (Role::FirstFrame, name));
        let named = named.chain(self.last_frame.into_iter().map(|name| (Role::LastFrame, name)));
        let named = named.chain(self.references.into_iter().map(|name| (Role::Reference, name)));
        let named = named.chain(self.sources.into_iter().map(|name| (Role::Source, name)));
        let named = named.chain(self.sounds.into_iter().map(|name| (Role::Audio, name)));
        let named = named.chain(self.mask.into_iter().map(|name| (Role::Mask, name)));
        let mut media = Vec::new();
        for (role, name) in named {
            media.push(Media { role: role.into(), asset: find(session, name).await? });
        }
        Ok(Input {
            prompt: self.prompt,
            seed: self.seed,
            negative_prompt: self.negative_prompt,
            media,
            settings: (settings != Settings::default()).then_some(settings),
            parameters,
            ..Input::default()
        })
    }
}

/// The name of a medium; a file is uploaded for it.
async fn find(session: &Session, name: String) -> Result<String> {
    if name.starts_with("assets/") || name.starts_with("generations/") {
        return Ok(name);
    }
    Ok(assets::upload(session, Path::new(&name)).await?.name)
}

fn parse_length(text: &str) -> Result<settings::Length> {
    if text == "auto" {
        return Ok(settings::Length::AutoDuration(true));
    }
    let parsed = match text.strip_suffix("ms") {
        Some(ms) => ms.parse().ok(),
        None => text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok().and_then(milliseconds),
    };
    let ms: u64 = parsed.ok_or_else(|| {
        Failure::new(format!("--duration {text} is no time")).todo("write 8s, 500ms or auto").exit(Exit::Usage)
    })?;
    let seconds = i64::try_from(ms / 1_000)?;
    let nanos = i32::try_from(ms % 1_000 * 1_000_000)?;
    Ok(settings::Length::Duration(prost_types::Duration { seconds, nanos }))
}

/// Seconds as milliseconds, where they are whole ones.
fn milliseconds(seconds: f64) -> Option<u64> {
    let ms = std::time::Duration::try_from_secs_f64(seconds).ok()?.as_micros();
    u64::try_from((ms + 500) / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_seconds_and_milliseconds() {
        let duration = |seconds, nanos| settings::Length::Duration(prost_types::Duration { seconds, nanos });
        for (text, length) in [
            ("8s", duration(8, 0)),
            ("8", duration(8, 0)),
            ("2.5s", duration(2, 500_000_000)),
            ("500ms", duration(0, 500_000_000)),
            ("auto", settings::Length::AutoDuration(true)),
        ] {
            assert_eq!(parse_length(text).unwrap(), length, "{text}");
        }
        for text in ["", "soon", "8m", "-1s", "NaN"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
    }
}
