//! Whose call a side is, and at which rate: client, account, rate. Source of the rules: RULES.md 2, steps 2 and 4;
//! states what `core/rating/identifying.py` does, and `identify` of `core/line/steps.py`.

use crate::batch::{Batch, Lacking, RateOf, Text};
use crate::catalog::Catalog;
use crate::clients::View;
use crate::periods::Sets;
use crate::rules::Asked;
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Views by their clients' ids.
pub type Views = FxHashSet<ById>;

/// A view as its client's id finds it.
pub struct ById(pub Arc<View>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (*self.0.id).hash(to);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// What lanes share: views of clients, whose accounts are, and what is offered together.
#[derive(Default)]
pub struct Cache {
    pub clients: Views,
    pub accounts: FxHashMap<Box<str>, Box<str>>,
    pub sets: Sets,
}

impl Cache {
    fn find<'a>(&'a self, batch: &'a Batch, client: &str) -> Option<&'a Arc<View>> {
        let fetched = if batch.fetched.is_empty() { None } else { batch.fetched.get(client) };
        fetched.or_else(|| self.clients.get(client)).map(|found| &found.0)
    }

    fn owner<'a>(&'a self, batch: &'a Batch, account: &str) -> Option<&'a str> {
        let found = batch.owners.get(account).or_else(|| self.accounts.get(account));
        found.map(|client| &**client).filter(|client| !client.is_empty())
    }
}

/// What one side comes to.
enum Found {
    Identified(Arc<View>, Option<Text>, RateOf),
    /// For what is rejected.
    Rejected,
    Client(Box<str>),
    Account(Box<str>),
    /// The client's state is of this version of the catalog.
    Ahead(i64),
}

pub fn identify(batch: &mut Batch, place: usize, catalog: &Catalog, cache: &Cache, lacking: &mut Lacking) {
    let side = &batch.sides[place];
    if let Some(view) = side.view.as_ref().filter(|_| side.identified_by == catalog.serial)
        && cache.find(batch, &view.id).is_some_and(|found| Arc::ptr_eq(found, view))
    {
        return;
    }
    let (client, account) = wanted(batch, place, catalog);
    let found = found(batch, place, catalog, cache, (client, account));
    let whose = if matches!(found, Found::Rejected) {
        let texts = &batch.texts;
        let client = client.map(|client| texts.get(client));
        let client = client.or_else(|| account.and_then(|account| cache.owner(batch, texts.get(account))));
        client.filter(|client| cache.find(batch, client).is_some() && !batch.fetched.contains(*client))
    } else {
        None
    };
    match found {
        Found::Rejected => lacking.clients.extend(whose.map(Into::into)),
        Found::Ahead(version) => lacking.catalog = lacking.catalog.max(version),
        Found::Client(ref client) => drop(lacking.clients.insert(client.clone())),
        Found::Account(ref account) => drop(lacking.accounts.insert(account.clone())),
        Found::Identified(..) => {}
    }
    let side = &mut batch.sides[place];
    (side.rejected, side.view, side.identified_by) = (matches!(found, Found::Rejected), None, catalog.serial);
    if let Found::Identified(view, account, rate) = found {
        (side.view, side.account, side.rate) = (Some(view), account, rate);
    }
}

/// (client, account) as the CDR names them, else as the first identification rule that holds does.
fn wanted(batch: &mut Batch, place: usize, catalog: &Catalog) -> (Option<Text>, Option<Text>) {
    let side = &batch.sides[place];
    let (named, texts) = (&side.named, &batch.texts);
    let some = |text: Option<Text>| text.filter(|text| !texts.get(*text).is_empty());
    let (client, account) = (some(named.client), some(named.account));
    if client.is_some() || account.is_some() {
        return (client, account);
    }
    let get = |text: Option<Text>| text.map(|text| texts.get(text));
    let caller = get(batch.cdrs[side.cdr as usize].caller);
    let asked = Asked { gateway: get(named.gateway), ip: get(named.ip), login: get(named.login), caller };
    match catalog.rules.find(side.index, &asked) {
        Some((client, account)) => {
            let texts = &mut batch.texts;
            (Some(texts.put(client)), account.map(|account| texts.put(account)))
        }
        None => (None, None),
    }
}

fn found(
    batch: &Batch,
    place: usize,
    catalog: &Catalog,
    cache: &Cache,
    wanted: (Option<Text>, Option<Text>),
) -> Found {
    let side = &batch.sides[place];
    let (texts, cdr) = (&batch.texts, batch.cdr(side));
    let named = wanted.1.map(|account| texts.get(account));
    let client = match wanted.0 {
        Some(client) => Some(texts.get(client)),
        None => named.and_then(|account| cache.owner(batch, account)),
    };
    let view = client.and_then(|client| cache.find(batch, client));
    if view.is_some_and(|view| view.unread) {
        return Found::Rejected;
    }
    if let Some(view) = view.filter(|view| view.catalog > catalog.version) {
        return Found::Ahead(view.catalog);
    }
    let service = texts.get(cdr.service);
    if catalog.price_unit(service).is_none() {
        return Found::Rejected;
    }
    let Some(client) = client else {
        return match named {
            Some(account) if !batch.absent_accounts.contains(account) => Found::Account(account.into()),
            _ => Found::Rejected,
        };
    };
    let Some(view) = view else {
        let absent = batch.absent_clients.contains(client);
        return if absent { Found::Rejected } else { Found::Client(client.into()) };
    };
    if let Some(account) = named.filter(|account| view.account(account).is_none()) {
        // Whose account it was when it was cached says nothing.
        let unknown = !batch.owners.contains_key(account) && !batch.absent_accounts.contains(account);
        return if unknown { Found::Account(account.into()) } else { Found::Rejected };
    }
    if !cdr.used {
        return Found::Identified(view.clone(), wanted.1, RateOf::None);
    }
    if let Some(rate) = &side.named.rate {
        return Found::Identified(view.clone(), wanted.1, RateOf::Given(rate.clone()));
    }
    let table = view.table(named, side.index, service).and_then(|name| catalog.tables.get(name));
    let rate = table.and_then(|table| Some((table, table.lookup(texts.get(cdr.called), cdr.at_ms)?)));
    match rate {
        Some((table, place)) => {
            Found::Identified(view.clone(), wanted.1, RateOf::Table(table.clone(), place))
        }
        None => Found::Rejected,
    }
}
