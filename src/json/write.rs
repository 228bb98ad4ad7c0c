//! JSON written piece by piece, without a tree: commas and quotes are the writer's, raw values go in as they are.

use super::view::Node;

/// Text under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer {
    out: String,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An object is open.
    pub fn object() -> Writer {
        let mut writer = Writer::new();
        writer.begin_object();
        writer
    }

    /// Forgets what was written, and keeps the space for it.
    pub fn clear(&mut self) -> &mut Writer {
        self.out.clear();
        self
    }

    fn comma(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(',');
        }
    }

    /// `{`
    pub fn begin_object(&mut self) -> &mut Writer {
        self.comma();
        self.out.push('{');
        self
    }

    /// `}`
    pub fn end_object(&mut self) -> &mut Writer {
        self.out.push('}');
        self
    }

    /// `[`
    pub fn begin_array(&mut self) -> &mut Writer {
        self.comma();
        self.out.push('[');
        self
    }

    /// `]`
    pub fn end_array(&mut self) -> &mut Writer {
        self.out.push(']');
        self
    }

    /// The name of the next value.
    pub fn key(&mut self, name: &str) -> &mut Writer {
        self.string(name);
        self.out.push(':');
        self
    }

    /// A string.
    pub fn string(&mut self, text: &str) -> &mut Writer {
        self.comma();
        push_quoted(text, &mut self.out);
        self
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) -> &mut Writer {
        self.comma();
        self.out.push_str(json);
        self
    }

    /// A whole number.
    pub fn number(&mut self, number: u64) -> &mut Writer {
        self.raw(&number.to_string())
    }

    /// `"name":"text"`
    pub fn text(&mut self, name: &str, text: &str) -> &mut Writer {
        self.key(name).string(text)
    }

    /// `"name":"text"`, or nothing.
    pub fn text_if(&mut self, name: &str, text: Option<&str>) -> &mut Writer {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// `"name":json`
    pub fn value(&mut self, name: &str, json: &str) -> &mut Writer {
        self.key(name).raw(json)
    }

    /// `"name":json`, or nothing.
    pub fn value_if(&mut self, name: &str, json: Option<&str>) -> &mut Writer {
        match json {
            Some(json) => self.value(name, json),
            None => self,
        }
    }

    /// `"name":node`, or nothing.
    pub fn node_if(&mut self, name: &str, node: Option<Node<'_>>) -> &mut Writer {
        self.value_if(name, node.map(Node::raw))
    }

    /// `"name":12`
    pub fn count(&mut self, name: &str, number: u64) -> &mut Writer {
        self.key(name).number(number)
    }

    /// `"name":true`
    pub fn flag(&mut self, name: &str, is: bool) -> &mut Writer {
        self.value(name, if is { "true" } else { "false" })
    }

    /// `"name":{`
    pub fn object_at(&mut self, name: &str) -> &mut Writer {
        self.key(name).begin_object()
    }

    /// `"name":[`
    pub fn array_at(&mut self, name: &str) -> &mut Writer {
        self.key(name).begin_array()
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// Closes the object and gives the text.
    pub fn close(mut self) -> String {
        self.out.push('}');
        self.out
    }

    /// What stands there so far.
    pub fn as_str(&self) -> &str {
        &self.out
    }
}

/// A string with its quotes and escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    push_quoted(text, &mut out);
    out
}

fn push_quoted(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x20.. => continue,
            _ => "",
        };
        out.push_str(text.get(plain_from..at).unwrap_or_default());
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str(if byte < 0x10 { "\\u000" } else { "\\u001" });
            out.push(HEX.get(usize::from(byte & 0x0f)).copied().unwrap_or(b'0').into());
        } else {
            out.push_str(escape);
        }
        plain_from = at.saturating_add(1);
    }
    out.push_str(text.get(plain_from..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commas_stand_between() {
        let mut w = Writer::object();
        w.text("a", "x").count("n", 3).array_at("l").begin_object().end_object().number(1).string("s").end_array();
        w.object_at("o").end_object().value("r", "[1]").flag("f", true).text_if("no", None);
        assert_eq!(w.close(), r#"{"a":"x","n":3,"l":[{},1,"s"],"o":{},"r":[1],"f":true}"#);
    }

    proptest! {
        #[test]
        fn strings_are_quoted_so_that_they_come_back(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
