//! Where in a value a reader stopped, by names and indexes.

use crate::scan;
use crate::view::Node;

/// One step from a value into a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Name(String),
    /// An item of a list.
    Index(usize),
}

/// A list or an object that is open.
enum Open<'a> {
    List(usize),
    /// With the name, in its quotes, of the member that is being read.
    Object(Option<&'a str>),
}

/// The way to the part of `text` that was being read, or had just been read, after `at` bytes of it. What stands before
/// `at` is a right beginning of a JSON text.
pub fn of(text: &str, at: usize) -> Vec<Step> {
    let bytes = text.as_bytes();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut here = 0;
    while here < at {
        let mut end = here.saturating_add(1);
        match (bytes.get(here), open.last_mut()) {
            (Some(b'['), _) => open.push(Open::List(0)),
            (Some(b'{'), _) => open.push(Open::Object(None)),
            (Some(b']' | b'}'), _) => drop(open.pop()),
            (Some(b','), Some(Open::List(index))) => *index = index.saturating_add(1),
            (Some(b','), Some(Open::Object(name))) => *name = None,
            (Some(b'"'), last) => {
                end = scan::string_end(bytes, end).unwrap_or(at);
                if let Some(Open::Object(name @ None)) = last {
                    *name = text.get(here..end);
                }
            }
            _ => {}
        }
        here = end;
    }
    let step = |open: Open<'_>| match open {
        Open::List(index) => Some(Step::Index(index)),
        Open::Object(name) => Node::of(name?).text().map(|name| Step::Name(name.into_owned())),
    };
    open.into_iter().filter_map(step).collect()
}

/// The steps in one text, below `root`: `root.name[1].name`.
pub fn write(root: &str, steps: &[Step]) -> String {
    let mut out = root.to_owned();
    for step in steps {
        match step {
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Name(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
        }
    }
    out
}
