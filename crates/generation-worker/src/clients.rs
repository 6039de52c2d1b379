//! The services beside this one, as the rules see them: no gRPC beyond this module.

mod assets;
mod work;

pub(crate) use assets::AssetClient;
pub(crate) use work::{Claims, Unreadable, WorkClient};
