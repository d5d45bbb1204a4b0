//! How often a broker has flushed its log, by its metrics.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

const LIMIT: Duration = Duration::from_secs(5);
const METRIC: &str = "gantry_log_flushes";

/// Asks the HTTP port of `gantry dev`.
pub(crate) fn count(http: &str) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {http}\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    value(&page).with_context(|| format!("no {METRIC} at http://{http}/metrics"))
}

fn value(page: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.split([' ', '{']).next() == Some(METRIC))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_is_found_with_and_without_labels() {
        let page = |line| format!("HTTP/1.0 200 OK\r\n\r\n# TYPE {METRIC} gauge\n{METRIC}_x 1\n{line}\n");
        assert_eq!(value(&page("gantry_log_flushes 42")), Some(42.0));
        assert_eq!(value(&page("gantry_log_flushes{broker=\"b\"} 7")), Some(7.0));
        assert_eq!(value(&page("")), None);
    }
}
