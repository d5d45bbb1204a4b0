//! `gantry version`.

use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Paint, Printer, View};

/// Which program this is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Of this program, and of the broker and name server in it.
    pub version: &'static str,
    /// Of the protocol that clients speak.
    pub protocol: &'static str,
    /// Of the custom resources.
    pub resources: &'static str,
    /// Operating system and processor.
    pub platform: String,
}

impl View for Version {
    fn text(&self, _: Paint) -> String {
        let Self { version, protocol, resources, platform } = self;
        format!("gantry {version} ({protocol}, {resources}, {platform})")
    }
}

/// Runs the command.
pub fn run(out: Printer) -> Result<(), Failure> {
    out.print(&Version {
        version: env!("CARGO_PKG_VERSION"),
        protocol: "apache.rocketmq.v2",
        resources: "mq.gantry.dev/v1alpha1",
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}
