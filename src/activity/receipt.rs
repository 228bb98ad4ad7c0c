//! A generation's cost, recomputed from its row and the published catalog: quantities by meter, unit prices, the rules that
//! applied, one rounding, and who paid.

use std::fmt::Write as _;

use crate::activity::row::Row;
use crate::catalog::{ModelEntry, Situation};
use crate::ledger::charge::{Line, Receipt, receipt};
use crate::ledger::ending::Rule;
use crate::money::{Nanos, Unrounded};
use crate::time::Millis;

/// A receipt and what it says in lines for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What it costs by the catalog.
    pub receipt: Receipt,
    /// The same for people.
    pub text: String,
}

/// Recomputes what `row` costs by `entry`, the model of its snapshot, and says where `charged` is something else.
pub fn prove(row: &Row, entry: Option<&ModelEntry>, charged: Nanos) -> Result<Proof, String> {
    let receipt = recomputed(row, entry)?;
    let text = told(row, &receipt);
    let mut faults = Vec::new();
    if receipt.lines != row.lines {
        faults.push(format!("the row has the lines {:?}, the catalog gives {:?}", row.lines, receipt.lines));
    }
    if receipt.rules != row.rules {
        faults.push(format!("the row names the rules {:?}, {:?} apply", row.rules, receipt.rules));
    }
    if receipt.fee != row.fee {
        faults.push(format!("the row has the fee {:?}, the catalog gives {:?}", row.fee, receipt.fee));
    }
    if receipt.total != charged {
        let (charged, total) = (charged.to_dollars(), receipt.total.to_dollars());
        faults.push(format!("${charged} was charged, the catalog gives ${total}"));
    }
    match faults.is_empty() {
        true => Ok(Proof { receipt, text }),
        false => Err(format!("{text}\n{}", faults.join("\n"))),
    }
}

fn recomputed(row: &Row, entry: Option<&ModelEntry>) -> Result<Receipt, String> {
    if row.ending.rule() == Rule::Nothing {
        return Ok(Receipt::default());
    }
    // A client that left before anybody was asked.
    let Some(usage) = &row.usage else { return Ok(Receipt::default()) };
    let basis = row.basis.as_ref().ok_or("the row does not say which offer priced it: it is older than receipts")?;
    let entry = entry.ok_or("the snapshot does not have the row's model")?;
    let entry = entry.in_force(Millis(row.at)).unwrap_or_else(|| entry.clone());
    let offer = entry.offers.get(basis.offer).ok_or("the snapshot does not have the row's offer")?;
    if Some(&offer.provider) != row.provider.as_ref() {
        return Err(format!("the offer is of {}, the row says {:?}", offer.provider, row.provider));
    }
    let situation = Situation {
        service_tier: basis.service_tier.as_deref(),
        speed: basis.speed.as_deref(),
        region: basis.region.as_deref(),
        search_context_size: basis.search_context_size.as_deref(),
        quality: basis.quality.as_deref(),
        size: basis.size.as_deref(),
        now: Millis(row.at),
        ..Situation::default()
    };
    let plain = receipt(usage, &offer.card, &situation).map_err(|error| format!("no price: {error:?}"))?;
    let mut receipt = match &row.fee {
        Some(fee) => plain.of_fee(fee.basis_points),
        None => plain,
    };
    if row.ending == crate::ledger::ending::Ending::ClientLeft {
        receipt.total = receipt.total.min(Nanos(row.held_nanos));
    }
    Ok(receipt)
}

fn told(row: &Row, receipt: &Receipt) -> String {
    let mut text = format!(
        "{} {} at {}, {}, {}\n",
        row.id,
        row.model.as_deref().unwrap_or("no model"),
        row.provider.as_deref().unwrap_or("nobody"),
        row.ending.name(),
        Millis(row.at).to_rfc3339(),
    );
    let _ = writeln!(text, "snapshot {}, paid by {}", row.snapshot.as_deref().unwrap_or("none"), row.paid_by);
    let mut sum = Some(Unrounded::default());
    for Line { meter, quantity, price } in &receipt.lines {
        sum = sum.and_then(|sum| sum.with(*quantity, *price).ok());
        let unit = price.to_dollars(1);
        let _ = writeln!(text, "  {:<26} {quantity:>12} × ${unit}", meter.name());
    }
    for rule in &receipt.rules {
        let _ = writeln!(text, "  rule {rule} of the price card");
    }
    if let Some(fee) = receipt.fee {
        let of = fee.of_nanos.to_dollars();
        let _ = writeln!(text, "  fee of {} basis points of ${of}, rounded up", fee.basis_points);
    } else if let Some(exact) = sum.and_then(|sum| sum.to_dollars().ok()) {
        let _ = writeln!(text, "  sum ${exact}, rounded up once");
    }
    let _ = write!(text, "total ${} ({} nano-dollars)", receipt.total.to_dollars(), receipt.total.0);
    if row.is_estimated {
        text.push_str(", of an estimated usage");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::row::Basis;
    use crate::ledger::ending::Ending;
    use crate::usage::{Meter, Usage};

    fn entry() -> ModelEntry {
        serde_json::from_value(serde_json::json!({
            "id": "a/b", "name": "B", "organisation": "a", "kind": "chat", "input": [], "output": [], "created": 0,
            "providers": {"p": {"id": "p", "name": "P", "base_url": "https://p.example", "families": ["openai-chat"],
                "auth": {"header": "Authorization", "prefix": "Bearer "}}},
            "offers": [{"provider": "p", "upstream": "b", "kind": "chat",
                "card": {"as_of": "", "prices": {"input_tokens": 1_500_000_001, "output_tokens": 3_000_000_000_i64}}}],
        }))
        .unwrap()
    }

    fn row() -> Row {
        let usage = Usage::default().with(Meter::InputTokens, 11).with(Meter::OutputTokens, 7);
        let mut row = Row::expired("gen_1", "key_1", "a/b", 5, 1_000_000);
        row.ending = Ending::Finished;
        row.provider = Some("p".to_owned());
        row.basis = Some(Basis::default());
        let situation = Situation { now: Millis(5), ..Situation::default() };
        row.lines = receipt(&usage, &entry().offers[0].card, &situation).unwrap().lines;
        row.usage = Some(usage);
        row
    }

    #[test]
    fn a_row_is_recomputed_to_the_nano_dollar_and_a_difference_is_told() {
        let total = 11 * 1_500 + 1 + 7 * 3_000;
        let proof = prove(&row(), Some(&entry()), Nanos(total)).unwrap();
        assert_eq!(proof.receipt.total, Nanos(total));
        assert!(
            proof.text.contains("input_tokens") && proof.text.ends_with("total $0.000037501 (37501 nano-dollars)"),
            "{}",
            proof.text
        );
        let fault = |row: &Row, charged: i64| prove(row, Some(&entry()), Nanos(charged)).unwrap_err();
        assert!(fault(&row(), total - 1).contains("was charged"));
        let mut other = row();
        other.usage = Some(other.usage.unwrap().with(Meter::OutputTokens, 8));
        assert!(fault(&other, total).contains("lines"));
        assert!(prove(&row(), None, Nanos(total)).is_err());
        let mut old = row();
        old.basis = None;
        assert!(prove(&old, Some(&entry()), Nanos(total)).unwrap_err().contains("older"));
    }

    #[test]
    fn what_costs_nothing_is_nothing_and_who_left_pays_no_more_than_was_held() {
        let mut failed = row();
        failed.ending = Ending::UpstreamFailed;
        failed.lines.clear();
        assert_eq!(prove(&failed, None, Nanos::ZERO).unwrap().receipt.total, Nanos::ZERO);
        let mut left = row();
        left.ending = Ending::ClientLeft;
        left.held_nanos = 100;
        assert_eq!(prove(&left, Some(&entry()), Nanos(100)).unwrap().receipt.total, Nanos(100));
    }

    #[test]
    fn the_fee_of_an_own_key_stands_alone() {
        let mut own = row();
        own.lines.clear();
        own.fee = Some(crate::ledger::charge::Fee { basis_points: 500, of_nanos: Nanos(37_501) });
        assert_eq!(prove(&own, Some(&entry()), Nanos(1_876)).unwrap().receipt.total, Nanos(1_876));
        own.fee = Some(crate::ledger::charge::Fee { basis_points: 500, of_nanos: Nanos(37_500) });
        assert!(prove(&own, Some(&entry()), Nanos(1_875)).unwrap_err().contains("fee"));
    }
}
