//! What a generation costs by the way it ended, and its settlement.

use serde_json::value::{RawValue, to_raw_value};

use crate::activity::origin::kept;
use crate::activity::row::{Basis, Row};
use crate::attempt::machine::Machine;
use crate::catalog::Situation;
use crate::error::Failure;
use crate::family::openai_chat;
use crate::ledger::charge::{Receipt, receipt};
use crate::ledger::ending::{Ending, Rule};
use crate::media::Work;
use crate::money::{Nanos, Price};
use crate::routing::explain::{ASKED_CANDIDATES, ROW_CANDIDATES, recorded};
use crate::routing::plan::Candidate;
use crate::serve::infer::Generation;
use crate::serve::ports::Ports;
use crate::text::request::Body;
use crate::text::terms::Terms;
use crate::time::Millis;
use crate::usage::{Meter, Usage};
use crate::workspace::{Admitted, Settlement};

/// The status of a client that left before its answer, in activity rows.
const STATUS_LEFT: u16 = 499;

/// What the settlement needs to know.
pub struct Closing {
    /// As in the activity row.
    pub status: u16,
    /// As in the activity row.
    pub code: Option<String>,
    /// As in the activity row.
    pub ending: Ending,
    /// As in the activity row.
    pub candidate: Option<usize>,
    /// As in the activity row.
    pub usage: Option<Usage>,
    /// Whether that is an estimate already.
    pub is_estimated: bool,
    /// As in the activity row.
    pub output_bytes: u64,
    /// As in the activity row.
    pub finish: Option<String>,
    /// The terms it ran under; `None` where no answer came: then those it was asked with.
    pub terms: Option<Terms>,
    /// As in the activity row.
    pub first_byte: Option<Millis>,
    /// When the first upstream call began; `None` when there was none.
    pub dispatched: Option<Millis>,
}

impl Closing {
    /// Of a request that nobody served.
    pub fn unserved(ending: Ending, status: u16, code: Option<&str>, dispatched: Option<Millis>) -> Closing {
        Closing {
            status,
            code: code.map(str::to_owned),
            ending,
            candidate: None,
            usage: None,
            is_estimated: false,
            output_bytes: 0,
            finish: None,
            terms: None,
            first_byte: None,
            dispatched,
        }
    }

    /// Of one that was refused to its client.
    pub fn failed(failure: &Failure, dispatched: Option<Millis>) -> Closing {
        let code = failure.code;
        Closing::unserved(Ending::AttemptsFailed, code.status(), Some(code.name()), dispatched)
    }

    /// Of one whose client left.
    pub fn left(dispatched: Option<Millis>) -> Closing {
        Closing::unserved(Ending::ClientLeft, STATUS_LEFT, None, dispatched)
    }
}

/// Says what usage costs at a candidate where the answer ends so, as members for a usage object.
pub fn price_of<'a>(
    generation: &'a Generation,
    candidate: &'a Candidate,
) -> impl Fn(&Usage, &Terms, Ending) -> Option<String> + 'a {
    move |usage, terms, ending| {
        if ending.rule() == Rule::Nothing {
            return Some(price_members(&Receipt::default(), &generation.snapshot));
        }
        let receipt = priced(usage, generation, candidate, terms)?;
        Some(price_members(&receipt, &generation.snapshot))
    }
}

/// The receipt for usage at a candidate: at the prices of the moment the request arrived, which hold to its end; where
/// the client pays the provider itself, of the fee alone.
pub fn priced(usage: &Usage, generation: &Generation, candidate: &Candidate, terms: &Terms) -> Option<Receipt> {
    let offer = candidate.offer()?;
    let request = &generation.request;
    let (quality, size) = offer.card.made_as(request.quality.as_deref(), request.size.as_deref());
    let situation = Situation {
        prompt_tokens: usage.prompt_tokens(),
        service_tier: terms.service_tier.as_deref(),
        speed: terms.speed.as_deref(),
        region: terms.region.as_deref(),
        search_context_size: terms.search_context_size.as_deref(),
        quality,
        size,
        now: generation.arrived,
        ..Situation::default()
    };
    let receipt = receipt(usage, &offer.card, &situation).ok()?;
    Some(match candidate.own {
        None => receipt,
        Some(_) => receipt.of_fee(generation.fee_basis_points),
    })
}

/// The members that an answer's usage gains: cost in dollars, its parts, and the snapshot that priced it.
pub fn price_members(receipt: &Receipt, snapshot: &str) -> String {
    let parts: Vec<String> = receipt
        .lines
        .iter()
        .filter_map(|line| {
            let nanos = i64::try_from(line.quantity).ok()?.checked_mul(line.price.0)?;
            // Nano-dollars per million units times units is 10⁻¹⁵ dollars: printed exactly.
            Some(format!("\"{}\":{}", line.meter.name(), Price(nanos).to_dollars(1)))
        })
        .chain(receipt.fee.map(|fee| format!("\"fee\":{}", fee.nanos().to_dollars())))
        .collect();
    let cost = receipt.total.to_dollars();
    format!("\"cost\":{cost},\"cost_details\":{{{}}},\"price_snapshot\":\"{snapshot}\"", parts.join(","))
}

/// What a generation costs, and why.
pub struct Charge {
    /// What was used, where anything says so.
    pub usage: Option<Usage>,
    /// Whether that is an estimate.
    pub is_estimated: bool,
    /// What it costs.
    pub receipt: Receipt,
}

/// Applies the table of endings.
pub fn charge(generation: &Generation, candidate: &Candidate, closing: &Closing, admitted: &Admitted) -> Charge {
    let nothing = |usage| Charge { usage, is_estimated: false, receipt: Receipt::default() };
    if closing.ending.rule() == Rule::Nothing {
        return nothing(closing.usage.clone());
    }
    let (usage, is_estimated) = match &closing.usage {
        Some(usage) => (usage.clone(), closing.is_estimated),
        None => (estimate(generation, candidate, closing.output_bytes), true),
    };
    let terms = closing.terms.as_ref().unwrap_or(&generation.request.terms);
    let mut receipt = match priced(&usage, generation, candidate, terms) {
        Some(receipt) => receipt,
        // Only an overflow gets here: offers without prices are no candidates. The hold was the true bound.
        None => Receipt { total: admitted.held, ..Receipt::default() },
    };
    if closing.ending == Ending::ClientLeft {
        receipt.total = receipt.total.min(admitted.held);
    }
    Charge { usage: Some(usage), is_estimated, receipt }
}

/// `credits`, or `byok` where the workspace's own credential was used.
pub const fn paid_by(own: Option<usize>) -> &'static str {
    match own {
        None => "credits",
        Some(_) => "byok",
    }
}

/// What was probably used, from what was sent and delivered: four bytes a token. Work that is no text is delivered whole
/// or not at all, and then by what its answer counts.
fn estimate(generation: &Generation, candidate: &Candidate, output_bytes: u64) -> Usage {
    if let Some((work, offer)) = generation.work.as_ref().zip(candidate.offer()) {
        return work.sent(&offer.card);
    }
    Usage::default()
        .with(Meter::InputTokens, generation.request.demand.prompt_tokens_likely())
        .with(Meter::OutputTokens, output_bytes.div_ceil(4))
}

/// Books it. The answer is on its way by now, and nothing here may keep it: what is written is written when it is sent.
pub async fn settle<P: Ports>(
    ports: &P,
    mut generation: Generation,
    admitted: Admitted,
    machine: Machine,
    closing: Closing,
) {
    let now = ports.now();
    let workspace = generation.policy.workspace.clone();
    // A prompt is not kept for it.
    generation.request.body = Body::default();
    let due = Box::new(move || settlement(&generation, &admitted, machine, closing, now));
    ports.settle(&workspace, due).await;
}

/// One settlement with its activity row.
fn settlement(
    generation: &Generation,
    admitted: &Admitted,
    machine: Machine,
    closing: Closing,
    now: Millis,
) -> Settlement {
    // A client that left before anybody answered is charged for the candidate that was being asked; between two attempts
    // nobody was.
    let asked = machine.asked().filter(|_| closing.dispatched.is_some() && closing.ending == Ending::ClientLeft);
    let attempts = machine.into_rows();
    let place = closing.candidate.or(asked);
    let candidate = place.and_then(|place| generation.plan.candidates.get(place));
    let charge = match candidate {
        Some(candidate) if closing.dispatched.is_some() => charge(generation, candidate, &closing, admitted),
        _ => Charge { usage: None, is_estimated: false, receipt: Receipt::default() },
    };
    let provider = candidate.and_then(|candidate| candidate.provider());
    let basis = candidate.filter(|_| closing.ending.rule() != Rule::Nothing).map(|candidate| {
        let Terms { service_tier, speed, region, search_context_size } =
            closing.terms.clone().unwrap_or_else(|| generation.request.terms.clone());
        let said = (generation.request.quality.as_deref(), generation.request.size.as_deref());
        let (quality, size) = candidate.offer().map_or(said, |offer| offer.card.made_as(said.0, said.1));
        Basis {
            offer: candidate.offer_place(),
            service_tier,
            speed,
            region,
            search_context_size,
            quality: quality.map(str::to_owned),
            size: size.map(str::to_owned),
        }
    });
    let tokens =
        charge.usage.as_ref().map_or(0, |usage| usage.prompt_tokens().saturating_add(usage.completion_tokens()));
    let row = Row {
        id: generation.id.as_str().to_owned(),
        at: generation.arrived.0,
        key: generation.policy.key.as_str().to_owned(),
        model_asked: generation.request.models.first().cloned().unwrap_or_default(),
        model: candidate.map(|candidate| candidate.model().id.clone()),
        provider: provider.map(|provider| provider.id.clone()),
        dialect: Some(generation.work.as_ref().map_or(generation.dialect.name(), Work::kind).to_owned()),
        stream: generation.request.stream,
        status: closing.status,
        code: closing.code,
        ending: closing.ending,
        finish_reason: closing.finish.as_deref().map(|word| kept(openai_chat::finish_reason(word))),
        usage: charge.usage,
        is_estimated: charge.is_estimated,
        fee: charge.receipt.fee,
        lines: charge.receipt.lines,
        rules: charge.receipt.rules,
        snapshot: Some(generation.snapshot.to_string()),
        basis,
        paid_by: paid_by(candidate.and_then(|candidate| candidate.own)).to_owned(),
        held_nanos: admitted.held.0,
        attempts,
        first_byte_ms: closing.first_byte.map(|at| at.since(generation.arrived)),
        total_ms: now.since(generation.arrived),
        gateway_ms: closing.dispatched.unwrap_or(now).since(generation.arrived),
        why: Some(recorded(&generation.plan, if generation.explains { ASKED_CANDIDATES } else { ROW_CANDIDATES })),
        session: generation.request.session.clone(),
        user: generation.request.user.clone(),
        origin: generation.origin.clone(),
    };
    let row = to_raw_value(&row).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Settlement {
        id: generation.id.clone(),
        key: generation.policy.key.clone(),
        admitted: admitted.at,
        held: admitted.held,
        cost: charge.receipt.total.max(Nanos::ZERO),
        tokens,
        is_fee: charge.receipt.fee.is_some(),
        row,
        is_durable: false,
    }
}
