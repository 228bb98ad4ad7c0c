//! One line of a published list: what can be asked of it, and what is shown of it.
//!
//! ```text
//! row    = facets TAB card TAB json TAB more
//! facets = "|" (name "=" value "|")*        a name may be there several times
//! card   = the offer's price card as the path reads it, where the row is an offer of which a price can be asked
//! json   = the object that a list shows, as it is
//! more   = the members that the page of one thing adds to that object, without braces
//! ```
//!
//! A list of a thousand models is answered by comparing bytes: nothing is parsed but what a reply must compute with.
//! JSON holds no raw TAB or line end, and facets lose theirs when they are written, so a row is one line.

/// A row, borrowed from its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    facets: &'a str,
    /// The price card, or nothing.
    pub card: &'a str,
    /// The object for a list.
    pub json: &'a str,
    more: &'a str,
}

impl<'a> Row<'a> {
    /// The rows of a list. A line that is no row is left out.
    pub fn all(list: &'a str) -> impl Iterator<Item = Row<'a>> {
        list.lines().filter_map(|line| {
            let (facets, rest) = line.split_once('\t')?;
            let (card, rest) = rest.split_once('\t')?;
            let (json, more) = rest.split_once('\t')?;
            Some(Row { facets, card, json, more })
        })
    }

    /// The same with an object that stands elsewhere.
    #[must_use]
    pub fn with_json(self, json: &'a str) -> Row<'a> {
        Row { json, ..self }
    }

    /// The object with everything.
    pub fn full(&self) -> String {
        if self.more.is_empty() { self.json.to_owned() } else { with_member(self.json, self.more) }
    }

    /// Whether it has the facet that [`facet`] wrote.
    pub fn has(&self, facet: &str) -> bool {
        self.facets.contains(facet)
    }

    /// The first value of a facet.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// Every value of a facet.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let facets = self.facets.split('|');
        facets.filter_map(move |facet| facet.strip_prefix(name)?.strip_prefix('='))
    }

    /// A facet that is a number; none where it is not known.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// What the row is called in its list, and the cursor that goes on after it.
    pub fn id(&self) -> &'a str {
        self.value("id").unwrap_or_default()
    }
}

/// A written object with one more member (or several) at its end.
pub fn with_member(object: &str, member: &str) -> String {
    format!("{},{member}}}", object.strip_suffix('}').unwrap_or(object))
}

/// A facet as it stands in a row, its borders included.
pub fn facet(name: &str, value: &str) -> String {
    format!("|{name}={}|", clean(value))
}

/// What a value looks like inside of a row.
pub fn clean(value: &str) -> String {
    value.replace(['|', '\t', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back() {
        let list =
            "|id=a/b|kind=chat|context=8192|region=eu|region=us|\t{\"p\":1}\t{\"id\":\"a/b\"}\t\"docs\":null\nno row\n";
        let rows: Vec<Row<'_>> = Row::all(list).collect();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.id(), row.card, row.json), ("a/b", r#"{"p":1}"#, r#"{"id":"a/b"}"#));
        assert_eq!(
            (row.full().as_str(), row.with_json("{\"x\":1}").json),
            (r#"{"id":"a/b","docs":null}"#, "{\"x\":1}")
        );
        assert!(row.has(&facet("region", "us")) && !row.has(&facet("region", "u")) && !row.has(&facet("egion", "us")));
        assert_eq!((row.number("context"), row.number("kind"), row.value("con")), (Some(8192), None, None));
        assert_eq!(row.values("region").collect::<Vec<_>>(), ["eu", "us"]);
    }

    #[test]
    fn a_value_cannot_leave_its_facet() {
        assert_eq!(facet("text", "a|b\tc\nd"), "|text=a b c d|");
    }
}
