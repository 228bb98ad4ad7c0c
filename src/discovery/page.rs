//! The order of rows, and pages of them.
//!
//! A cursor is the id of the last row seen: it reads well, and it goes on at the right place whatever the page size. In
//! every order rows of equal rank stand by their place in the list, and what is not known stands last.

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
                    let known: Vec<&str> = orders.iter().map(|(name, _)| *name).collect();
                    Failure::invalid(name, format!("must be one of {}", known.join(", ")))
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

/// Puts rows in order.
pub fn sort(rows: &mut [Row<'_>], order: Order, health: &dyn Fn(&Row<'_>) -> Health) {
    let number = |row: &Row<'_>, name| row.number(name).map_or(u64::MAX, descending);
    match order {
        Order::Id => {}
        Order::Name => rows.sort_by(|a, b| a.value("text").cmp(&b.value("text"))),
        Order::Newest => by(rows, &|row| number(row, "created")),
        Order::Context => by(rows, &|row| number(row, "context")),
        Order::Price => by(rows, &cheapest),
        Order::Latency => by(rows, &|row| health(row).latency_ms.unwrap_or(u64::MAX)),
        Order::Throughput => by(rows, &|row| health(row).tokens_per_second.map_or(u64::MAX, descending)),
    }
}

/// Higher numbers first, and all of them before what is not known.
fn descending(number: u64) -> u64 {
    (u64::MAX - 1).saturating_sub(number)
}

fn by(rows: &mut [Row<'_>], key: &dyn Fn(&Row<'_>) -> u64) {
    rows.sort_by_cached_key(|row| key(row));
}

/// The sum of both prices of the cheapest offer in nanos per million; where one is unknown, last.
pub fn cheapest(row: &Row<'_>) -> u64 {
    let pair = row.value("prices").unwrap_or_default().split(';').next().unwrap_or_default();
    let (prompt, completion) = pair.split_once(':').unwrap_or_default();
    match (prompt.parse::<u64>(), completion.parse::<u64>()) {
        (Ok(prompt), Ok(completion)) => prompt.saturating_add(completion),
        _ => u64::MAX,
    }
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How much there is on all pages.
    pub total: usize,
    /// Whether there is another.
    pub has_more: bool,
}

/// The page that `paging` asks for; `id` says what an item is called.
pub fn cut<T>(mut items: Vec<T>, paging: &Paging, id: impl Fn(&T) -> &str) -> Result<Page<T>, Failure> {
    let total = items.len();
    if let Some((name, after)) = &paging.after {
        let at = items.iter().position(|item| id(item) == after);
        let at = at.ok_or_else(|| Failure::invalid(name, "is not a cursor of this list as it stands now"))?;
        items.drain(..=at);
    }
    let limit = paging.limit.unwrap_or(usize::MAX);
    let has_more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, total, has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "|id=a|created=5|prices=10:20|text=zeta|\t\t{}\n|id=b|context=9|prices=5:|text=alpha|\t\t{}\n\
        |id=c|created=7|context=10|prices=1:2;0:9|text=mu|\t\t{}\n";

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn ids(sort_by: &str, named: &[Named]) -> String {
        let paging = parse(&pairs(&[("sort", sort_by)]), named).unwrap();
        let mut rows: Vec<Row<'_>> = Row::all(LIST).collect();
        let health = |row: &Row<'_>| match row.id() {
            "b" => Health { latency_ms: Some(9), tokens_per_second: Some(10) },
            "c" => Health { latency_ms: Some(3), tokens_per_second: Some(50) },
            _ => Health::default(),
        };
        sort(&mut rows, paging.order, &health);
        rows.iter().map(Row::id).collect()
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
            let page = cut(rows.clone(), &parse(&pairs(query), MODELS)?, |id| id)?;
            Ok::<_, Failure>((page.items.concat(), page.has_more, page.total))
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
}
