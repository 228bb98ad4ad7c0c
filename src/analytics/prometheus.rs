//! The text format of Prometheus, version 0.0.4: families with their help and type, one sample a line.

use std::fmt::Write as _;

/// The media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text in the making.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    family: &'static str,
}

impl Text {
    /// Begins a family. `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the family; `suffix` as histograms have them. The value is a decimal number.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: &str) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The whole of it.
    pub fn finish(self) -> String {
        self.text
    }
}

/// Milliseconds as seconds.
pub fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_the_format_says() {
        let mut text = Text::default();
        text.family("a_total", "counter", "What \\ is\ncounted.");
        text.sample("", &[], "1");
        text.sample("", &[("x", "q\"\\\n"), ("y", "")], "2.5");
        assert_eq!(
            text.finish(),
            "# HELP a_total What \\\\ is\\ncounted.\n# TYPE a_total counter\na_total 1\na_total{x=\"q\\\"\\\\\\n\",y=\"\"} 2.5\n"
        );
    }

    #[test]
    fn seconds_have_no_idle_digits() {
        assert_eq!([0, 2, 1000, 1024, 524_288].map(seconds), ["0", "0.002", "1", "1.024", "524.288"]);
    }
}
