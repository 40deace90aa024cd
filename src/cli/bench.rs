//! The flags of `corelane bench`.
//!
//! Decides: which flags are settings of a load test and which say where its result goes. May not know: what a
//! setting means. Invariant: settings come in the order of [`Key::ALL`], headers in the order of the command line.

use std::path::PathBuf;

use crate::bench::Args;
use crate::bench::scenario::Key;

use super::{Flag, Flags, Usage, usage};

impl Flags {
    pub(super) fn bench(&mut self) -> Result<Args, Usage> {
        let mut settings = Vec::new();
        for key in Key::ALL {
            while let Some(text) = self.text(Flag::Load(key))? {
                settings.push((key, text));
            }
        }
        Ok(Args {
            scenario: self.take(Flag::Scenario).map(PathBuf::from),
            scale: self.scale()?,
            json: self.take(Flag::Json).map(PathBuf::from),
            html: self.take(Flag::Html).map(PathBuf::from),
            settings,
        })
    }

    fn scale(&mut self) -> Result<Option<f64>, Usage> {
        let Some(text) = self.text(Flag::Scale)? else {
            return Ok(None);
        };
        let scale = text.parse::<f64>().ok();
        let scale = scale.filter(|scale| (0.001..=100.0).contains(scale));
        scale
            .map(Some)
            .ok_or_else(|| usage(format!("--scale {text} is not in 0.001 to 100")))
    }
}
