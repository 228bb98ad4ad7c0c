//! The order of rows, and pages of them.
//!
//! A cursor is the id of the last row seen: it reads well, and it goes on at the right place whatever the page size. In
//! every order rows of equal rank stand by their place in the list, and what is not known stands last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::filter::told;
use crate::catalog::Row;
use crate::error::Failure;

/// Rows of one page, at most.
pub const LIMIT_MAX: usize = 1000;

/// What is known of how an offer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Average milliseconds to the first content.
    pub latency_ms: Option<u64>,
    /// Average tokens a second.
    pub tokens_per_second: Option<u64>,
}

/// An order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the list has them: by id.
    Id,
    /// Latest release first.
    Newest,
    /// Lowest sum of prompt and completion price first.
    Price,
    /// Longest context first.
    Context,
    /// By the name for people.
    Name,
    /// Lowest latency first.
    Latency,
    /// Highest throughput first.
    Throughput,
}

/// An order and what `sort` calls it.
pub type Named = (&'static str, Order);

/// Orders of models.
pub const MODELS: &[Named] = &[
    ("id", Order::Id),
    ("newest", Order::Newest),
    ("price", Order::Price),
    ("context", Order::Context),
    ("name", Order::Name),
];
/// Orders of rows of prices.
pub const PRICES: &[Named] = &[("id", Order::Id), ("price", Order::Price), ("context", Order::Context)];
/// Orders of offers and providers.
pub const OFFERS: &[Named] = &[
    ("id", Order::Id),
    ("price", Order::Price),
    ("context", Order::Context),
    ("latency", Order::Latency),
    ("throughput", Order::Throughput),
];

/// What a query says about order and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// The order.
    pub order: Order,
    /// Rows of a page; none is all of them.
    pub limit: Option<usize>,
    /// The last row of the page before.
    pub after: Option<(String, String)>,
}

/// Parses `sort`, `limit` and the cursor (`after`, `after_id` or `cursor`).
pub fn parse(pairs: &[(String, String)], orders: &[Named]) -> Result<Paging, Failure> {
    let mut paging = Paging { order: Order::Id, limit: None, after: None };
    for (name, value) in pairs {
        match name.as_str() {
            "sort" => {
                let known = orders.iter().find(|(known, _)| known == value);
                paging.order = known.map(|(_, order)| *order).ok_or_else(|| {
                    let known = told(&mut orders.iter().map(|(name, _)| *name));
                    Failure::invalid(name, format!("must be one of {known}"))
                })?;
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                paging.limit = Some(limit.ok_or_else(|| {
                    Failure::invalid(name, format!("must be a whole number between 1 and {LIMIT_MAX}"))
                })?);
            }
            "after" | "after_id" | "cursor" => paging.after = Some((name.clone(), value.clone())),
            _ => {}
        }
    }
    Ok(paging)
}

/// Rows in order.
pub fn sort<'a>(rows: Vec<Row<'a>>, order: Order, health: &dyn Fn(&Row<'_>) -> Health) -> Vec<Row<'a>> {
    if order == Order::Id {
        return rows;
    }
    let mut places = Places::default();
    rows.iter().for_each(|row| places.add(key(row, order, health)));
    let mut sorted = Vec::with_capacity(rows.len());
    places.each(&mut |place| sorted.extend(rows.get(place)));
    sorted
}

/// What an order compares: the lowest first.
pub fn key(row: &Row<'_>, order: Order, health: &dyn Fn(&Row<'_>) -> Health) -> u64 {
    let last = u64::MAX;
    match order {
        Order::Id => 0,
        Order::Name => row.number("rank").unwrap_or(last),
        Order::Newest => row.number("created").map_or(last, descending),
        Order::Context => row.number("context").map_or(last, descending),
        Order::Price => cheapest(row),
        Order::Latency => health(row).latency_ms.unwrap_or(last),
        Order::Throughput => health(row).tokens_per_second.map_or(last, descending),
    }
}

/// The places of keys, the lowest key first and equal ones as they came. A heap: as quick as it must be, and a tenth of
/// the code of a sort.
#[derive(Debug, Default)]
pub struct Places(BinaryHeap<Reverse<(u64, usize)>>);

impl Places {
    /// One more key.
    pub fn add(&mut self, key: u64) {
        self.0.push(Reverse((key, self.0.len())));
    }

    /// Each place, in the order of the keys.
    pub fn each(mut self, visit: &mut dyn FnMut(usize)) {
        while let Some(Reverse((_, place))) = self.0.pop() {
            visit(place);
        }
    }
}

/// Higher numbers first, and all of them before what is not known.
fn descending(number: u64) -> u64 {
    (u64::MAX - 1).saturating_sub(number)
}

/// The sum of both prices of the cheapest offer in nanos per million; where one is unknown, last.
fn cheapest(row: &Row<'_>) -> u64 {
    let pair = row.value("prices").unwrap_or_default().split(';').next().unwrap_or_default();
    let (prompt, completion) = pair.split_once(':').unwrap_or_default();
    match (prompt.parse::<u64>(), completion.parse::<u64>()) {
        (Ok(prompt), Ok(completion)) => prompt.saturating_add(completion),
        _ => u64::MAX,
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it begins and ends in the list.
    pub range: std::ops::Range<usize>,
    /// How long the list is.
    pub total: usize,
}

/// The page that `paging` asks for, of a list of these ids.
pub fn cut(ids: &[&str], paging: &Paging) -> Result<Page, Failure> {
    let start = match &paging.after {
        None => 0,
        Some((name, after)) => {
            let at = ids.iter().position(|id| id == after);
            let at = at.ok_or_else(|| Failure::invalid(name, "is not a cursor of this list as it stands now"))?;
            at.saturating_add(1)
        }
    };
    let end = start.saturating_add(paging.limit.unwrap_or(usize::MAX)).min(ids.len());
    Ok(Page { range: start..end, total: ids.len() })
}

/// A page as a list of the OpenAI API, with cursors; `object` adds the object at a place of the list. An id is a name of
/// the catalog's: nothing in it needs to be escaped.
pub fn write(ids: &[&str], page: &Page, object: &mut dyn FnMut(usize, &mut String)) -> String {
    let mut text = String::from(r#"{"object":"list","data":["#);
    let (start, end) = (page.range.start, page.range.end);
    for place in page.range.clone() {
        if place > start {
            text.push(',');
        }
        object(place, &mut text);
    }
    let quoted = |place: Option<usize>| {
        let id = place.filter(|place| page.range.contains(place)).and_then(|place| ids.get(place));
        id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""))
    };
    let has_more = end < page.total;
    let (first, last) = (quoted(Some(start)), quoted(end.checked_sub(1)));
    let next = if has_more { last.as_str() } else { "null" };
    let total = page.total;
    text + &format!(
        r#"],"total":{total},"has_more":{has_more},"first_id":{first},"last_id":{last},"next_cursor":{next}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "|id=a|created=5|prices=10:20|rank=2|\t\t{}\t\n|id=b|context=9|prices=5:|rank=0|\t\t{}\t\n\
        |id=c|created=7|context=10|prices=1:2;0:9|rank=1|\t\t{}\t\n";

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn ids(sort_by: &str, named: &[Named]) -> String {
        let paging = parse(&pairs(&[("sort", sort_by)]), named).unwrap();
        let rows: Vec<Row<'_>> = Row::all(LIST).collect();
        let health = |row: &Row<'_>| match row.id() {
            "b" => Health { latency_ms: Some(9), tokens_per_second: Some(10) },
            "c" => Health { latency_ms: Some(3), tokens_per_second: Some(50) },
            _ => Health::default(),
        };
        sort(rows, paging.order, &health).iter().map(Row::id).collect()
    }

    #[test]
    fn what_is_unknown_comes_last_in_every_order() {
        for (order, expected) in
            [("id", "abc"), ("newest", "cab"), ("price", "cab"), ("context", "cba"), ("name", "bca")]
        {
            assert_eq!(ids(order, MODELS), expected, "{order}");
        }
        assert_eq!((ids("latency", OFFERS), ids("throughput", OFFERS)), ("cba".into(), "cba".into()));
    }

    #[test]
    fn pages_follow_each_other() {
        let rows: Vec<&str> = "abcde".split("").filter(|id| !id.is_empty()).collect();
        let page = |query: &[(&str, &str)]| {
            let page = cut(&rows, &parse(&pairs(query), MODELS)?)?;
            Ok::<_, Failure>((rows[page.range.clone()].concat(), page.range.end < page.total, page.total))
        };
        assert_eq!(page(&[]), Ok(("abcde".into(), false, 5)));
        assert_eq!(page(&[("limit", "2")]), Ok(("ab".into(), true, 5)));
        assert_eq!(page(&[("limit", "2"), ("after", "b")]), Ok(("cd".into(), true, 5)));
        assert_eq!(page(&[("limit", "2"), ("cursor", "d")]), Ok(("e".into(), false, 5)));
        assert_eq!(page(&[("limit", "5"), ("after_id", "e")]), Ok((String::new(), false, 5)));
        for (name, value) in
            [("after", "x"), ("cursor", ""), ("limit", "0"), ("limit", "1001"), ("limit", "x"), ("sort", "id2")]
        {
            assert_eq!(page(&[(name, value)]).unwrap_err().param.as_deref(), Some(name), "{name}={value}");
        }
        assert!(page(&[("limit", "1000")]).is_ok());
    }

    #[test]
    fn a_page_is_a_list_with_cursors() {
        let ids = ["a", "b", "c"];
        let written = |range: std::ops::Range<usize>| {
            let page = Page { range, total: 3 };
            let written =
                write(&ids, &page, &mut |place, text| text.push_str(&format!(r#"{{"id":"{}"}}"#, ids[place])));
            serde_json::from_str::<serde_json::Value>(&written).unwrap()
        };
        assert_eq!(
            written(0..2),
            serde_json::json!({"object": "list", "data": [{"id": "a"}, {"id": "b"}], "total": 3, "has_more": true,
                "first_id": "a", "last_id": "b", "next_cursor": "b"})
        );
        assert_eq!(
            written(3..3),
            serde_json::json!({"object": "list", "data": [], "total": 3, "has_more": false,
                "first_id": null, "last_id": null, "next_cursor": null})
        );
    }
}
