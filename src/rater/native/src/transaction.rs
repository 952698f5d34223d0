//! What becomes of the sides of a request, and what is published of it: transactions with their effects, fees, events.
//! Source of the rules: RULES.md 2, steps 9 to 13, 2.2 and section 4 (Thresholds); states what
//! `core/rating/transaction.py`, `core/rating/crossings.py`, `unpack_results` and `render` of `core/line/steps.py` do.

use crate::amounts::{write_count, write_micros};
use crate::batch::{Batch, RateOf, Side, Stand, Text};
use crate::bucket_draw::Drawn;
use crate::cdr::CALLS;
use crate::clients::View;
use crate::draw::{Asked, Call, Head};
use crate::instants::{stamp_of, write_rfc3339};
use crate::json::{write_escaped, write_quoted};
use crate::msgpack::{Reader, Unreadable, Writer};
use crate::offers::LimitText;
use std::fmt::Write;
use std::sync::Arc;

const RATED: i64 = 0;
pub const DUPLICATE: i64 = 1;
const FEE: i64 = -1;
const MARK: i64 = -2;
/// Index of the fee that orig brought; the next is term's.
const FEE_INDEX_MIN: i64 = 6;

/// (candidate index, taken, left, covered).
type Take = (usize, i64, i64, i64);

/// What a side got. Fields: as of `messages.DrawResult`; fee: (which was charged, covered, its amount).
#[derive(Default)]
pub struct DrawResult {
    pub outcome: i64,
    amount: i64,
    sufficient: Option<bool>,
    takes: Vec<Take>,
    fee: Option<(Option<usize>, Option<bool>, i64)>,
    low: Option<bool>,
}

impl DrawResult {
    /// What an item got of a bucket in memory, as it would be told.
    pub fn of(drawn: &Drawn) -> Self {
        let takes = drawn.takes.iter().map(|take| (take.index, take.taken, take.left, take.covered));
        Self {
            outcome: RATED,
            amount: drawn.amount,
            sufficient: drawn.sufficient,
            takes: takes.collect(),
            fee: drawn.fee.as_ref().map(|fee| (fee.charged, fee.covered, fee.amount)),
            low: None,
        }
    }
}

/// A fee that a side brought, by the one that its draw charged: its transaction, and what it adds to counters.
pub fn brought<'a>(
    side: &'a Side,
    head: &Head,
    charged: usize,
    amount: i64,
) -> Option<(&'a str, [(String, i64); 3])> {
    let fee = side.fees.get(charged)?;
    let begin = &head.opened.as_ref()?.packages.get(fee.group)?.field;
    let sums = [("charged", 1), ("net", fee.net), ("amount", amount)];
    Some((&*fee.value, sums.map(|(name, number)| (format!("{begin}.fee.{name}"), number))))
}

fn judged(number: i64) -> Option<bool> {
    match number {
        1 => Some(false),
        2 => Some(true),
        _ => None,
    }
}

/// (woken, results) as the store packed them.
pub fn read_results(packed: &[u8]) -> Result<(Vec<usize>, Vec<DrawResult>), Unreadable> {
    let mut from = Reader::new(packed);
    let mut left = from.array()?;
    let mut next = || {
        left = left.checked_sub(1).ok_or(Unreadable)?;
        from.int().map(|number| (number, left))
    };
    let (count, mut rest) = next()?;
    let mut woken = Vec::new();
    for _ in 0..count {
        let (place, left) = next()?;
        rest = left;
        woken.push(usize::try_from(place).map_err(|_| Unreadable)?);
    }
    let mut results = Vec::new();
    while rest > 0 {
        let (code, left) = next()?;
        rest = left;
        let mut result = DrawResult { outcome: code & 3, ..DrawResult::default() };
        if result.outcome == RATED {
            result.sufficient = judged(code >> 2 & 3);
            (result.amount, rest) = next()?;
            for _ in 0..code >> 4 {
                let [(of, _), (taken, _), (left, _), (covered, behind)] =
                    [next()?, next()?, next()?, next()?];
                rest = behind;
                match of {
                    MARK => result.low = judged(taken),
                    FEE => result.fee = Some((usize::try_from(taken - 1).ok(), judged(covered), left)),
                    of => {
                        let of = usize::try_from(of).map_err(|_| Unreadable)?;
                        result.takes.push((of, taken, left, covered));
                    }
                }
            }
        }
        results.push(result);
    }
    Ok((woken, results))
}

/// Where it goes what is published. side: its place in the batch.
pub trait Sink {
    fn transaction(&mut self, client: &View, value: &str, effect: &[u8], side: usize);
    fn event(&mut self, kind: &'static str, client: &View, value: &str, side: usize);
    /// A side whose draw was refused, as the reference says.
    fn refused(&mut self, side: usize, outcome: i64);
}

/// How many of what was rendered.
#[derive(Default)]
pub struct Counts {
    /// By side: rated, zero, duplicates.
    pub sides: [[i64; 3]; 2],
    pub volume_draws: i64,
    pub money_draws: i64,
    pub fees: i64,
    pub late: i64,
}

/// Turn every drawn side into what is published of it, in the order of the records.
pub fn render(batch: &Batch, sink: &mut dyn Sink) -> Counts {
    let mut to =
        Writing { batch, sink, counts: Counts::default(), text: String::new(), effect: Writer::default() };
    for (place, side) in batch.sides.iter().enumerate() {
        if side.stand != Stand::Drawn {
            continue;
        }
        let call = &batch.calls[side.call.0 as usize];
        let asked = &call.asked[side.call.1 as usize];
        let result = &call.results[side.call.1 as usize];
        match result.outcome {
            RATED => to.rated(place, call, asked, result),
            DUPLICATE => to.counts.sides[side.index][2] += 1,
            outcome => to.sink.refused(place, outcome),
        }
    }
    to.counts
}

/// What is written at present, in buffers that are used again.
struct Writing<'a> {
    batch: &'a Batch,
    sink: &'a mut dyn Sink,
    counts: Counts,
    text: String,
    effect: Writer,
}

impl Writing<'_> {
    fn rated(&mut self, place: usize, call: &Call, asked: &Asked, result: &DrawResult) {
        let side = &self.batch.sides[place];
        let head = &call.heads[asked.head as usize];
        let (counts, effect) = (&mut self.counts, &mut self.effect);
        begin_effect(self.batch, side, side.index as i64, Some(asked), head, result.amount, effect);
        effect.array(result.takes.len());
        let mut tells = result.low.is_some();
        for &(of, taken, left, _) in &result.takes {
            let Some(limit) = limit_of(side, of) else { continue };
            effect.array(2);
            effect.text_of_parts(&[period_of(head, limit).1, &limit.field]);
            effect.int(taken);
            *(if limit.money { &mut counts.money_draws } else { &mut counts.volume_draws }) += 1;
            tells |= limit.marks.iter().any(|(_, rest)| left <= *rest && *rest < left.saturating_add(taken));
        }
        self.text.clear();
        write_transaction(self.batch, side, head, &call.rates[asked.rate as usize], result, &mut self.text);
        self.sink.transaction(&head.view, &self.text, &self.effect.0, place);
        if let Some((Some(charged), _, amount)) = result.fee {
            self.fee(place, head, charged, amount);
        }
        if tells {
            self.tell(place, head, result);
        }
        let zero = side.priced.as_ref().is_some_and(|priced| priced.why.is_some());
        self.counts.sides[side.index][usize::from(zero)] += 1;
        self.counts.late += i64::from(side.late);
    }

    /// Publish the fee that a side brought beside its usage.
    fn fee(&mut self, place: usize, head: &Head, charged: usize, amount: i64) {
        let side = &self.batch.sides[place];
        let Some(fee) = side.fees.get(charged) else { return };
        let effect = &mut self.effect;
        begin_effect(self.batch, side, FEE_INDEX_MIN + side.index as i64, None, head, amount, effect);
        let begin = head.opened.as_ref().map_or("", |opened| &*opened.packages[fee.group].field);
        effect.array(3);
        for (name, number) in [(".fee.charged", 1), (".fee.net", fee.net), (".fee.amount", amount)] {
            effect.array(2);
            effect.text_of_parts(&[begin, name]);
            effect.int(number);
        }
        self.sink.transaction(&head.view, &fee.value, &self.effect.0, place);
        self.counts.fees += 1;
    }

    /// Tell of limits used to a percent, and of a balance at its client's mark.
    fn tell(&mut self, place: usize, head: &Head, result: &DrawResult) {
        let side = &self.batch.sides[place];
        for &(of, taken, left, _) in &result.takes {
            let Some(limit) = limit_of(side, of) else { continue };
            for (percent, rest) in &limit.marks {
                if left <= *rest && *rest < left.saturating_add(taken) {
                    self.event(place, head, "limit_threshold", Some((limit, *percent)));
                }
            }
        }
        if let Some(low) = result.low {
            self.event(place, head, if low { "low_balance" } else { "balance_restored" }, None);
        }
    }

    fn event(&mut self, place: usize, head: &Head, kind: &'static str, of: Option<(&LimitText, i64)>) {
        self.text.clear();
        write_event(self.batch, &self.batch.sides[place], head, kind, of, &mut self.text);
        self.sink.event(kind, &head.view, &self.text, place);
    }
}

fn limit_of(side: &Side, of: usize) -> Option<&LimitText> {
    side.chosen.as_ref()?.candidates.get(of).map(|one| &one.text)
}

/// Of an open client package: its id as JSON, how its counters begin, its period's number.
fn period_of<'a>(head: &'a Head, limit: &LimitText) -> (&'a str, &'a str, &'a str) {
    let text = head.opened.as_ref().and_then(|opened| opened.packages.get(limit.group));
    text.map_or(("", "", ""), |text| (&text.id, &text.field, &text.period))
}

/// Write an effect up to its counters. asked: None of what has no duplicates.
fn begin_effect(
    batch: &Batch,
    side: &Side,
    index: i64,
    asked: Option<&Asked>,
    head: &Head,
    amount: i64,
    out: &mut Writer,
) {
    let cdr = batch.cdr(side);
    out.0.clear();
    out.array(11);
    out.text(&batch.topics[cdr.topic as usize]);
    for number in [batch.lane, cdr.offset, index, stamp_of(cdr.timestamp), batch.lane_ms] {
        out.int(number);
    }
    out.bytes(asked.map_or(&[], |asked| &asked.key));
    out.bytes(asked.map_or(&[], |asked| &asked.content));
    out.text(&head.view.id);
    out.int(amount);
}

/// Write the transaction's JSON.
pub fn write_transaction(
    batch: &Batch,
    side: &Side,
    head: &Head,
    rate: &RateOf,
    result: &DrawResult,
    out: &mut String,
) {
    let (cdr, texts) = (batch.cdr(side), &batch.texts);
    let (why, billed, mut fx) = match &side.priced {
        Some(priced) => (priced.why, priced.billed, priced.fx.clone()),
        None => (None, 0, Vec::new()),
    };
    let put = |out: &mut String, text: Text| write_escaped(texts.get(text), out);
    out.push_str("{\"revision\":1,\"type\":\"usage\",\"id\":\"");
    put(out, cdr.source);
    out.push('/');
    put(out, cdr.id);
    out.push('/');
    out.push_str(&head.ids);
    put(out, cdr.source);
    out.push_str("\",\"id\":\"");
    put(out, cdr.id);
    out.push_str("\"},\"at\":\"");
    write_rfc3339(cdr.at_ms, out);
    out.push_str("\",\"outcome\":\"");
    match why {
        None => out.push_str("rated"),
        Some(why) => out.extend(["zero\",\"why\":\"", why.text()]),
    }
    out.push_str("\",\"caller\":");
    match cdr.caller {
        Some(caller) => write_quoted(texts.get(caller), out),
        None => out.push_str("null"),
    }
    out.extend([",\"called\":\"", texts.get(cdr.called), "\",\"duration_ms\":", head.amount]);
    write_count(cdr.amount(texts.get(cdr.service) == CALLS), out);
    out.push(',');
    out.extend(rate.fragment());
    out.push_str(",\"billed\":");
    write_count(billed, out);
    out.extend([&head.end, ",\"draws\":["]);
    let mut overage = billed;
    let mut fee = if why.is_none() { rate.fee_text() } else { "0" };
    for (place, &(of, taken, left, covered)) in result.takes.iter().enumerate() {
        let Some(limit) = limit_of(side, of) else { continue };
        let (held, _, period) = period_of(head, limit);
        out.push_str(if place > 0 { ",{\"client_package\":" } else { "{\"client_package\":" });
        out.extend([held, &limit.prefix, period, &limit.tag]);
        if limit.money {
            write_micros(taken, out);
            out.push_str("\",\"left\":\"");
            write_micros(left, out);
            out.push_str("\",\"covered\":\"");
            write_micros(covered, out);
            fx.extend(limit.fx.iter().cloned());
        } else {
            write_count(taken, out);
            out.push_str("\",\"left\":\"");
            write_count(left, out);
            overage -= taken;
            if limit.waive {
                fee = "0";
            }
        }
        out.push_str("\"}");
    }
    out.push_str("],\"overage\":");
    write_count(overage, out);
    out.extend([",\"setup_fee\":\"", fee, "\",\"amount\":\""]);
    write_micros(result.amount, out);
    out.push('"');
    for (name, judged) in [
        (",\"balance_sufficient\":", result.sufficient),
        (",\"fee_covered\":", result.fee.and_then(|(_, covered, _)| covered)),
    ] {
        if let Some(judged) = judged {
            out.extend([name, if judged { "true" } else { "false" }]);
        }
    }
    write_fx(&fx, out);
    out.push('}');
}

/// A currency may have been used by the rate and by a limit: each is shown once.
fn write_fx(fx: &[Arc<str>], out: &mut String) {
    for (place, one) in fx.iter().enumerate() {
        if place == 0 {
            out.push_str(",\"fx\":[");
        }
        if !fx[..place].contains(one) {
            out.push_str(if place > 0 { "," } else { "" });
            out.push_str(one);
        }
    }
    if !fx.is_empty() {
        out.push(']');
    }
}

fn write_event(
    batch: &Batch,
    side: &Side,
    head: &Head,
    kind: &str,
    of: Option<(&LimitText, i64)>,
    out: &mut String,
) {
    let (cdr, texts) = (batch.cdr(side), &batch.texts);
    let topic = &batch.topics[cdr.topic as usize];
    out.push_str("{\"id\":\"");
    write_escaped(texts.get(cdr.source), out);
    out.push('/');
    write_escaped(texts.get(cdr.id), out);
    let _ = write!(out, "/{}/1/{kind}", if side.index == 0 { "orig" } else { "term" });
    if let Some((limit, percent)) = of {
        out.push('/');
        write_escaped(&limit.id, out);
        let _ = write!(out, "/{percent}");
    }
    let _ = write!(out, "\",\"type\":\"{kind}\",\"at\":\"");
    write_rfc3339(cdr.at_ms, out);
    out.push_str("\",\"client\":");
    write_quoted(&head.view.id, out);
    out.push_str(",\"account\":");
    match head.account {
        Some(account) => write_quoted(texts.get(account), out),
        None => out.push_str("null"),
    }
    match of {
        Some((limit, _)) => {
            let (held, _, period) = period_of(head, limit);
            let _ = write!(out, ",\"client_package\":{held},\"package_name\":");
            write_quoted(&limit.package_name, out);
            let _ = write!(out, ",\"period\":{period}");
        }
        None => out.push_str(",\"client_package\":null,\"package_name\":null,\"period\":null"),
    }
    out.push_str(",\"cause\":\"");
    write_escaped(topic, out);
    let _ = write!(
        out,
        "/{}/{}\",\"actor\":null,\"before\":null,\"after\":null,\"data\":",
        batch.lane, cdr.offset
    );
    match of {
        Some((limit, percent)) => {
            out.push_str("{\"limit\":");
            write_quoted(&limit.id, out);
            let _ = write!(out, ",\"percent\":{percent}}}}}");
        }
        None => out.push_str("null}"),
    }
}
