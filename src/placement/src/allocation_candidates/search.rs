//! Finding candidates.
//!
//! SQL narrows down by class and amount (index on class) and by traits; what is left is combined in memory. Every
//! provider is usable from certain trees, its *anchors*: its own tree, and, if it shares by aggregate, the tree of each
//! provider it has an aggregate with. A candidate takes all its groups from providers of one anchor.
//!
//! Combining is bounded: a request whose combinations explode gets the candidates found until then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use db::Tx;
use rest::Result;

use super::groups::Request;
use crate::{
    aggregates,
    inventories::{self, store::Stocked},
    query::{self, Wanted},
    resource_providers::store::{self as providers, Provider},
    traits, usages,
};

/// Combinations looked at for one request, fitting or not.
const MAX_STEPS: usize = 200_000;
/// Amounts named in all candidates together: 1,000 machines with three classes each name 3,000.
const MAX_AMOUNTS: usize = 100_000;

/// One way to fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Provider -> class -> amount.
    pub resources: BTreeMap<i64, BTreeMap<i64, i64>>,
    /// Group -> providers that serve it.
    pub mappings: BTreeMap<String, BTreeSet<i64>>,
}

/// What a list of candidates says about a provider.
#[derive(Debug)]
pub struct Summary {
    pub provider: Provider,
    /// (class id, class name, capacity, used)
    pub resources: Vec<(i64, String, i64, i64)>,
    pub traits: Vec<String>,
}

#[derive(Debug)]
pub struct Found {
    pub candidates: Vec<Candidate>,
    pub summaries: Vec<Summary>,
    /// Class ids to names.
    pub classes: HashMap<i64, String>,
    /// Provider ids to uuids.
    pub uuids: HashMap<i64, String>,
    /// The class ids that were asked for.
    pub asked: BTreeSet<i64>,
}

/// A group with names resolved.
struct Sought {
    suffix: String,
    amounts: Vec<(i64, i64)>,
    traits: Wanted<i64>,
    aggregates: Wanted<String>,
    in_tree: InTree,
}

enum InTree {
    Anywhere,
    Root(i64),
    /// The named provider does not exist: nothing fits.
    Nowhere,
}

/// What one group can be served with at one anchor: for each part a list of providers. A group with a suffix has one part.
struct Part {
    amounts: Vec<(i64, i64)>,
    providers: Vec<i64>,
}

pub fn run(tx: &Tx<'_>, request: &Request) -> Result<Found> {
    let mut sought = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        let in_tree = match &group.in_tree {
            None => InTree::Anywhere,
            Some(uuid) => providers::find(tx, uuid)?.map_or(InTree::Nowhere, |found| InTree::Root(found.root_id)),
        };
        sought.push(Sought {
            suffix: group.suffix.clone(),
            amounts: query::class_ids(tx, &group.amounts)?,
            traits: query::trait_ids(tx, &group.traits)?,
            aggregates: group.aggregates.clone(),
            in_tree,
        });
    }
    let root_traits = query::trait_ids(tx, &request.root_traits)?;
    let asked = sought.iter().flat_map(|group| group.amounts.iter().map(|(class, _)| *class)).collect();
    let scene = Scene::load(tx, &sought)?;
    let candidates = scene.candidates(&sought, request, &root_traits);
    summarize(tx, candidates, request, asked)
}

/// Everything about the providers that could serve a part of the request.
struct Scene {
    /// Eligible providers and everything in their trees.
    providers: HashMap<i64, Provider>,
    /// (group, part) -> providers that have room for it or, without amounts, fit its traits.
    fitting: HashMap<(usize, usize), Vec<i64>>,
    traits: HashMap<i64, HashSet<i64>>,
    aggregates: HashMap<i64, HashSet<String>>,
    /// Provider -> roots of the trees that it can be used from.
    anchors: HashMap<i64, BTreeSet<i64>>,
    inventories: HashMap<i64, BTreeMap<i64, Stocked>>,
    used: HashMap<(i64, i64), i64>,
}

fn json_list<'a>(ids: impl IntoIterator<Item = &'a i64>) -> String {
    serde_json::Value::from(ids.into_iter().copied().collect::<Vec<i64>>()).to_string()
}

impl Scene {
    fn load(tx: &Tx<'_>, sought: &[Sought]) -> Result<Self> {
        let mut fitting: HashMap<(usize, usize), Vec<i64>> = HashMap::new();
        let by_amount = providers::fitting("?1", "?2") + " ORDER BY i.provider_id";
        for (at, group) in sought.iter().enumerate() {
            if group.amounts.is_empty() {
                let filter = providers::Filter {
                    traits: group.traits.clone(),
                    aggregates: group.aggregates.clone(),
                    ..providers::Filter::default()
                };
                fitting.insert((at, 0), providers::list(tx, &filter)?.iter().map(|found| found.id).collect());
                continue;
            }
            for (part, (class, amount)) in group.amounts.iter().enumerate() {
                let ids: Vec<i64> = tx.list(&by_amount, [*class, *amount], |row| row.get(0))?;
                fitting.insert((at, part), ids);
            }
        }
        let eligible: BTreeSet<i64> = fitting.values().flatten().copied().collect();
        let list = json_list(&eligible);
        let roots: BTreeSet<i64> = providers::by_ids(tx, &list)?.iter().map(|found| found.root_id).collect();
        let of_trees = providers::of_trees(tx, &json_list(&roots))?;
        let all: BTreeSet<i64> = of_trees.iter().map(|found| found.id).collect();
        let all_list = json_list(&all);
        let mut anchors: HashMap<i64, BTreeSet<i64>> = of_trees
            .iter()
            .filter(|found| eligible.contains(&found.id))
            .map(|found| (found.id, BTreeSet::from([found.root_id])))
            .collect();
        let mut traits = traits::store::ids_of_providers(tx, &all_list)?;
        let sharing: BTreeSet<i64> = match traits::store::find(tx, traits::store::SHARES_VIA_AGGREGATE)? {
            Some(shares) => eligible
                .iter()
                .filter(|id| traits.get(id).is_some_and(|has| has.contains(&shares.id)))
                .copied()
                .collect(),
            None => BTreeSet::new(),
        };
        let mut foreign_roots = BTreeSet::new();
        for (provider, root) in aggregates::store::roots_in_common(tx, &json_list(&sharing))? {
            anchors.entry(provider).or_default().insert(root);
            if !all.contains(&root) {
                foreign_roots.insert(root);
            }
        }
        // Anchors that serve nothing themselves still have traits that `root_required` looks at.
        traits.extend(traits::store::ids_of_providers(tx, &json_list(&foreign_roots))?);
        Ok(Self {
            fitting,
            traits,
            aggregates: aggregates::store::of_providers(tx, &all_list)?,
            anchors,
            inventories: inventories::store::of_providers(tx, &list)?,
            used: usages::store::of_providers(tx, &list)?,
            providers: of_trees.into_iter().map(|found| (found.id, found)).collect(),
        })
    }

    fn has_trait(&self, provider: i64, wanted: i64) -> bool {
        self.traits.get(&provider).is_some_and(|has| has.contains(&wanted))
    }

    fn in_aggregate(&self, provider: i64, wanted: &str) -> bool {
        self.aggregates.get(&provider).is_some_and(|is_in| is_in.contains(wanted))
    }

    /// Whether the provider may serve the group, its amounts aside.
    fn admits(&self, id: i64, group: &Sought) -> bool {
        let Some(provider) = self.providers.get(&id) else { return false };
        match group.in_tree {
            InTree::Anywhere => {}
            InTree::Root(root) if provider.root_id == root => {}
            InTree::Root(_) | InTree::Nowhere => return false,
        }
        if group.suffix.is_empty() {
            // Required traits may come from any of the providers that serve the group together: checked when combined.
            // A root's aggregates hold for its whole tree.
            !group.traits.forbids(|wanted| self.has_trait(id, *wanted))
                && group
                    .aggregates
                    .admits(|wanted| self.in_aggregate(id, wanted) || self.in_aggregate(provider.root_id, wanted))
        } else {
            group.traits.admits(|wanted| self.has_trait(id, *wanted))
                && group.aggregates.admits(|wanted| self.in_aggregate(id, wanted))
        }
    }

    /// For each anchor the parts of the group that can be served there.
    fn parts(&self, at: usize, group: &Sought) -> HashMap<i64, Vec<Part>> {
        let fitting = |part: usize| self.fitting.get(&(at, part)).cloned().unwrap_or_default();
        let mut parts: Vec<Part> = Vec::new();
        if group.amounts.is_empty() {
            parts.push(Part { amounts: Vec::new(), providers: fitting(0) });
        } else if group.suffix.is_empty() {
            for (part, amount) in group.amounts.iter().enumerate() {
                parts.push(Part { amounts: vec![*amount], providers: fitting(part) });
            }
        } else {
            // One provider for all amounts: the intersection.
            let mut providers = fitting(0);
            for part in 1..group.amounts.len() {
                let other: HashSet<i64> = fitting(part).into_iter().collect();
                providers.retain(|id| other.contains(id));
            }
            parts.push(Part { amounts: group.amounts.clone(), providers });
        }
        let mut by_anchor: HashMap<i64, Vec<Part>> = HashMap::new();
        let whole = parts.len();
        for (part, Part { amounts, providers }) in parts.into_iter().enumerate() {
            for id in providers.into_iter().filter(|id| self.admits(*id, group)) {
                for anchor in self.anchors.get(&id).into_iter().flatten() {
                    let here = by_anchor.entry(*anchor).or_default();
                    // An anchor that lacks an earlier part cannot serve the group.
                    if here.len() < part {
                        continue;
                    }
                    if here.len() == part {
                        here.push(Part { amounts: amounts.clone(), providers: Vec::new() });
                    }
                    here[part].providers.push(id);
                }
            }
        }
        by_anchor.retain(|_, here| here.len() == whole);
        by_anchor
    }

    fn candidates(&self, sought: &[Sought], request: &Request, root_traits: &Wanted<i64>) -> Vec<Candidate> {
        let mut by_group: Vec<HashMap<i64, Vec<Part>>> =
            sought.iter().enumerate().map(|(at, group)| self.parts(at, group)).collect();
        let Some(first) = by_group.first() else { return Vec::new() };
        let mut anchors: Vec<i64> = first
            .keys()
            .copied()
            .filter(|anchor| by_group.iter().all(|parts| parts.contains_key(anchor)))
            .filter(|anchor| root_traits.admits(|wanted| self.has_trait(*anchor, *wanted)))
            .collect();
        anchors.sort_unstable();
        let mut found = Search {
            scene: self,
            sought,
            request,
            steps: 0,
            amounts: 0,
            seen: HashMap::new(),
            candidates: Vec::new(),
            chosen: Vec::new(),
        };
        for anchor in anchors {
            let mut slots = Vec::new();
            for (group, parts) in by_group.iter_mut().enumerate() {
                for part in parts.remove(&anchor).unwrap_or_default() {
                    slots.push(Slot { group, part });
                }
            }
            if !found.combine(&slots, 0) {
                break;
            }
        }
        found.candidates
    }

    /// Whether `ancestor` is `id` or above it.
    fn is_above(&self, ancestor: i64, id: i64) -> bool {
        let mut at = Some(id);
        while let Some(here) = at {
            if here == ancestor {
                return true;
            }
            at = self.providers.get(&here).and_then(|provider| provider.parent_id);
        }
        false
    }
}

struct Slot {
    group: usize,
    part: Part,
}

struct Search<'s> {
    scene: &'s Scene,
    sought: &'s [Sought],
    request: &'s Request,
    steps: usize,
    amounts: usize,
    /// Hash -> places in `candidates`: the same candidate is met from every anchor that it fits.
    seen: HashMap<u64, Vec<usize>>,
    candidates: Vec<Candidate>,
    /// The provider chosen for each slot so far.
    chosen: Vec<i64>,
}

impl Search<'_> {
    /// Fills slot `at` and all after it in every way. False once there are enough candidates.
    fn combine(&mut self, slots: &[Slot], at: usize) -> bool {
        let Some(slot) = slots.get(at) else {
            if let Some(candidate) = self.finish(slots) {
                self.keep(candidate);
            }
            let limit = self.request.limit.unwrap_or(usize::MAX);
            return self.candidates.len() < limit && self.amounts < MAX_AMOUNTS;
        };
        for provider in &slot.part.providers {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return false;
            }
            if self.clashes(slots, slot, *provider) {
                continue;
            }
            self.chosen.push(*provider);
            let go_on = self.combine(slots, at + 1);
            self.chosen.pop();
            if !go_on {
                return false;
            }
        }
        true
    }

    fn keep(&mut self, candidate: Candidate) {
        let places = self.seen.entry(hash(&candidate)).or_default();
        if places.iter().any(|place| self.candidates[*place] == candidate) {
            return;
        }
        places.push(self.candidates.len());
        self.amounts += candidate.resources.values().map(BTreeMap::len).sum::<usize>();
        self.candidates.push(candidate);
    }

    /// Whether the choice cannot stand next to those already made: isolation, and room for the sum.
    fn clashes(&self, slots: &[Slot], slot: &Slot, provider: i64) -> bool {
        // A group without resources takes a provider of its own too.
        let granular = |slot: &Slot| !self.sought[slot.group].suffix.is_empty();
        let same = || slots.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen == provider).map(|(slot, _)| slot);
        if self.request.isolate && granular(slot) && same().any(granular) {
            return true;
        }
        slot.part.amounts.iter().any(|(class, amount)| {
            let before: i64 = same()
                .flat_map(|other| &other.part.amounts)
                .filter(|(other, _)| other == class)
                .map(|(_, amount)| *amount)
                .sum();
            before > 0 && !self.has_room(provider, *class, before + amount)
        })
    }

    fn has_room(&self, provider: i64, class: i64, amount: i64) -> bool {
        let stocked = self.scene.inventories.get(&provider).and_then(|of_provider| of_provider.get(&class));
        stocked.is_some_and(|stocked| {
            let used = self.scene.used.get(&(provider, class)).copied().unwrap_or(0);
            stocked.inventory.takes(amount) && used.saturating_add(amount) <= stocked.inventory.capacity()
        })
    }

    /// The candidate that the choices make, unless it breaks a rule about all of them together.
    fn finish(&self, slots: &[Slot]) -> Option<Candidate> {
        let mut resources: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
        let mut mappings: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (slot, provider) in slots.iter().zip(&self.chosen) {
            let group = &self.sought[slot.group];
            mappings.entry(group.suffix.clone()).or_default().insert(*provider);
            for (class, amount) in &slot.part.amounts {
                *resources.entry(*provider).or_default().entry(*class).or_insert(0) += amount;
            }
        }
        for group in self.sought.iter().filter(|group| group.suffix.is_empty()) {
            let serving = mappings.get(&group.suffix)?;
            let some_has = |wanted: &i64| serving.iter().any(|id| self.scene.has_trait(*id, *wanted));
            if !group.traits.required_by(some_has) {
                return None;
            }
        }
        for suffixes in &self.request.same_subtree {
            let together: BTreeSet<i64> =
                suffixes.iter().filter_map(|suffix| mappings.get(suffix)).flatten().copied().collect();
            let one_above = together.iter().any(|top| together.iter().all(|id| self.scene.is_above(*top, *id)));
            if !one_above {
                return None;
            }
        }
        if !self.request.nested {
            let mut roots = HashSet::new();
            let root = |id: &i64| self.scene.providers.get(id).map(|provider| provider.root_id);
            if !resources.keys().all(|id| roots.insert(root(id))) {
                return None;
            }
        }
        Some(Candidate { resources, mappings })
    }
}

fn hash(candidate: &Candidate) -> u64 {
    let mut hasher = DefaultHasher::new();
    candidate.hash(&mut hasher);
    hasher.finish()
}

/// Since 1.29 the whole trees of all providers that serve, before only those.
fn summarize(tx: &Tx<'_>, candidates: Vec<Candidate>, request: &Request, asked: BTreeSet<i64>) -> Result<Found> {
    let serving: BTreeSet<i64> = candidates
        .iter()
        .flat_map(|candidate| candidate.resources.keys().chain(candidate.mappings.values().flatten()))
        .copied()
        .collect();
    let mut shown = providers::by_ids(tx, &json_list(&serving))?;
    if request.nested {
        let roots: BTreeSet<i64> = shown.iter().map(|provider| provider.root_id).collect();
        shown = providers::of_trees(tx, &json_list(&roots))?;
    }
    let list = json_list(&shown.iter().map(|provider| provider.id).collect::<Vec<_>>());
    let mut inventories = inventories::store::of_providers(tx, &list)?;
    let used = usages::store::of_providers(tx, &list)?;
    let mut traits = traits::store::names_of_providers(tx, &list)?;
    let mut classes = HashMap::new();
    let mut uuids = HashMap::new();
    let mut summaries = Vec::with_capacity(shown.len());
    for provider in shown {
        let mut resources = Vec::new();
        for (class, stocked) in inventories.remove(&provider.id).unwrap_or_default() {
            classes.insert(class, stocked.class.clone());
            let taken = used.get(&(provider.id, class)).copied().unwrap_or(0);
            resources.push((class, stocked.class, stocked.inventory.capacity(), taken));
        }
        uuids.insert(provider.id, provider.uuid.clone());
        summaries.push(Summary { traits: traits.remove(&provider.id).unwrap_or_default(), resources, provider });
    }
    Ok(Found { candidates, summaries, classes, uuids, asked })
}

#[cfg(test)]
mod tests {
    //! Random forests of providers, where the search must find exactly what trying every assignment finds.

    use db::Db;
    use proptest::{prelude::*, test_runner::TestRunner};

    use super::*;
    use crate::{
        allocation_candidates::groups::Group,
        allocations::{model, store as allocations},
        inventories::model::Inventory,
        resource_classes,
    };

    const CLASSES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];
    const TRAITS: [&str; 2] = ["HW_CPU_X86_AVX", "STORAGE_DISK_SSD"];
    const AGGREGATES: [&str; 2] = ["aaaaaaaa-0000-0000-0000-000000000001", "aaaaaaaa-0000-0000-0000-000000000002"];

    #[derive(Debug, Clone)]
    struct Node {
        /// An earlier node, or none.
        parent: Option<usize>,
        /// Total of each class, 0 for none.
        totals: [i64; 3],
        traits: [bool; 2],
        aggregates: [bool; 2],
        shares: bool,
    }

    fn node() -> impl Strategy<Value = (usize, [i64; 3], [bool; 2], [bool; 2], bool)> {
        (0_usize..6, [0_i64..3, 0_i64..3, 0_i64..3], any::<[bool; 2]>(), any::<[bool; 2]>(), any::<bool>())
    }

    fn world() -> impl Strategy<Value = Vec<Node>> {
        prop::collection::vec(node(), 1..5).prop_map(|nodes| {
            let make = |(at, (parent, totals, traits, aggregates, shares))| Node {
                parent: (parent < at).then_some(parent),
                totals,
                traits,
                aggregates,
                shares,
            };
            nodes.into_iter().enumerate().map(make).collect()
        })
    }

    fn wanted(all: &'static [&'static str]) -> impl Strategy<Value = Wanted<String>> {
        let name = prop::sample::select(all).prop_map(str::to_owned);
        (prop::collection::vec(prop::collection::vec(name.clone(), 1..3), 0..2), prop::collection::vec(name, 0..2))
            .prop_map(|(any, forbidden)| Wanted { any, forbidden })
    }

    fn group(suffix: &'static str) -> impl Strategy<Value = Group> {
        (
            prop::sample::subsequence(CLASSES.to_vec(), 1..3),
            1_i64..3,
            prop::option::weighted(0.5, wanted(&TRAITS)),
            prop::option::weighted(0.3, wanted(&AGGREGATES)),
        )
            .prop_map(move |(classes, amount, traits, aggregates)| Group {
                suffix: suffix.to_owned(),
                amounts: classes.into_iter().map(|class| (class.to_owned(), amount)).collect(),
                traits: traits.unwrap_or_default(),
                aggregates: aggregates.unwrap_or_default(),
                in_tree: None,
            })
    }

    fn request() -> impl Strategy<Value = Request> {
        (group(""), group("1"), group("_B"), 1_u8..8, any::<[bool; 3]>(), prop::option::weighted(0.3, wanted(&TRAITS)))
            .prop_map(|(plain, one, two, which, [isolate, subtree, nested], root)| {
                let groups: Vec<Group> = [plain, one, two]
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| which & (1 << at) != 0)
                    .map(|(_, group)| group)
                    .collect();
                let both = groups.iter().filter(|group| !group.suffix.is_empty()).count() == 2;
                Request {
                    groups,
                    isolate,
                    limit: None,
                    root_traits: root.unwrap_or_default(),
                    same_subtree: if both && subtree { vec![vec!["1".into(), "_B".into()]] } else { Vec::new() },
                    nested,
                }
            })
    }

    struct World {
        _folder: tempfile::TempDir,
        db: Db,
        runtime: tokio::runtime::Runtime,
    }

    fn uuid(at: usize) -> String {
        format!("00000000-0000-0000-0000-{at:012}")
    }

    impl World {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let db = Db::open(&folder.path().join("db")).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            Self { _folder: folder, db, runtime }
        }

        /// Leaves the world with exactly these providers.
        fn fill(&self, nodes: Vec<Node>) {
            self.runtime.block_on(self.db.write(move |tx| fill(tx, &nodes))).unwrap();
        }

        fn search(&self, request: &Request) -> Found {
            self.db.read_blocking(|tx| run(tx, request)).unwrap()
        }
    }

    fn fill(tx: &Tx<'_>, nodes: &[Node]) -> Result<()> {
        for id in tx.list("SELECT id FROM placement_provider ORDER BY id DESC", [], |row| row.get(0))? {
            providers::delete(tx, id)?;
        }
        for (at, node) in nodes.iter().enumerate() {
            let parent = node.parent.map(|parent| providers::get(tx, &uuid(parent)).unwrap());
            let made = providers::insert(tx, &uuid(at), &format!("p{at}"), parent.as_ref(), "now").unwrap();
            for (class, total) in CLASSES.iter().zip(node.totals).filter(|(_, total)| *total > 0) {
                let class = resource_classes::store::find(tx, class)?.unwrap();
                let inventory =
                    Inventory { total, reserved: 0, min_unit: 1, max_unit: total, step_size: 1, allocation_ratio: 1.0 };
                inventories::store::put(tx, made.id, class.id, &inventory).unwrap();
            }
            let mut names: Vec<&str> =
                TRAITS.iter().zip(node.traits).filter(|(_, has)| *has).map(|(name, _)| *name).collect();
            if node.shares {
                names.push(traits::store::SHARES_VIA_AGGREGATE);
            }
            let ids: Vec<i64> = names.iter().map(|name| traits::store::find(tx, name).unwrap().unwrap().id).collect();
            traits::store::replace_of_provider(tx, made.id, &ids)?;
            let uuids: Vec<String> = AGGREGATES
                .iter()
                .zip(node.aggregates)
                .filter(|(_, is_in)| *is_in)
                .map(|(uuid, _)| (*uuid).to_owned())
                .collect();
            aggregates::store::replace(tx, made.id, &uuids)?;
        }
        Ok(())
    }

    /// Allocations and mappings by names, to compare by.
    type Answer = (BTreeMap<usize, BTreeMap<String, i64>>, BTreeMap<String, BTreeSet<usize>>);

    /// Every assignment of a node to every (group, class), judged by the words of the API reference.
    fn brute_force(nodes: &[Node], request: &Request) -> BTreeSet<Answer> {
        let slots: Vec<(&Group, &(String, i64))> =
            request.groups.iter().flat_map(|group| group.amounts.iter().map(move |amount| (group, amount))).collect();
        let mut answers = BTreeSet::new();
        let mut choice = vec![0_usize; slots.len()];
        loop {
            answers.extend(judge(nodes, request, &slots, &choice));
            let Some(at) = choice.iter().position(|chosen| chosen + 1 < nodes.len()) else { break };
            choice[at] += 1;
            choice[..at].fill(0);
        }
        answers
    }

    fn judge(
        nodes: &[Node],
        request: &Request,
        slots: &[(&Group, &(String, i64))],
        choice: &[usize],
    ) -> Option<Answer> {
        let root = |mut at: usize| {
            while let Some(parent) = nodes[at].parent {
                at = parent;
            }
            at
        };
        let named = |all: &[&str], name: &str| all.iter().position(|known| *known == name).unwrap();
        let has = |at: usize, name: &String| nodes[at].traits[named(&TRAITS, name)];
        let is_in = |at: usize, uuid: &String| nodes[at].aggregates[named(&AGGREGATES, uuid)];
        let usable = |at: usize, anchor: usize| {
            root(at) == anchor
                || nodes[at].shares
                    && (0..nodes.len()).any(|other| {
                        root(other) == anchor && (0..2).any(|a| nodes[at].aggregates[a] && nodes[other].aggregates[a])
                    })
        };
        let anchored = (0..nodes.len()).any(|anchor| {
            nodes[anchor].parent.is_none()
                && choice.iter().all(|at| usable(*at, anchor))
                && request.root_traits.admits(|name| has(anchor, name))
        });
        let mut resources: BTreeMap<usize, BTreeMap<String, i64>> = BTreeMap::new();
        let mut mappings: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for ((group, (class, amount)), at) in slots.iter().zip(choice) {
            *resources.entry(*at).or_default().entry(class.clone()).or_insert(0) += amount;
            mappings.entry(group.suffix.clone()).or_default().insert(*at);
        }
        let fits = resources.iter().all(|(at, amounts)| {
            amounts.iter().all(|(class, amount)| *amount <= nodes[*at].totals[named(&CLASSES, class)])
        });
        let groups = request.groups.iter().all(|group| {
            let serving = &mappings[&group.suffix];
            if group.suffix.is_empty() {
                group.traits.required_by(|name| serving.iter().any(|at| has(*at, name)))
                    && serving.iter().all(|at| {
                        !group.traits.forbids(|name| has(*at, name))
                            && group.aggregates.admits(|uuid| is_in(*at, uuid) || is_in(root(*at), uuid))
                    })
            } else {
                serving.len() == 1
                    && serving.iter().all(|at| {
                        group.traits.admits(|name| has(*at, name)) && group.aggregates.admits(|uuid| is_in(*at, uuid))
                    })
            }
        });
        let granular: Vec<&BTreeSet<usize>> =
            mappings.iter().filter(|(suffix, _)| !suffix.is_empty()).map(|(_, serving)| serving).collect();
        let apart = !request.isolate || granular.len() < 2 || granular[0] != granular[1];
        let above = |top: usize, mut at: usize| loop {
            if top == at {
                return true;
            }
            match nodes[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        };
        let together = request.same_subtree.iter().all(|suffixes| {
            let all: Vec<usize> = suffixes.iter().flat_map(|suffix| mappings[suffix].iter().copied()).collect();
            all.iter().any(|top| all.iter().all(|at| above(*top, *at)))
        });
        let flat =
            request.nested || resources.keys().map(|at| root(*at)).collect::<BTreeSet<_>>().len() == resources.len();
        (anchored && fits && groups && apart && together && flat).then_some((resources, mappings))
    }

    fn answers(found: &Found) -> Vec<Answer> {
        let at = |id: &i64| found.uuids[id][24..].parse::<usize>().unwrap();
        let name = |id: &i64| found.classes[id].clone();
        found
            .candidates
            .iter()
            .map(|one| {
                let resources = one.resources.iter().map(|(provider, amounts)| {
                    (at(provider), amounts.iter().map(|(class, amount)| (name(class), *amount)).collect())
                });
                let mappings = one.mappings.iter().map(|(suffix, ids)| (suffix.clone(), ids.iter().map(at).collect()));
                (resources.collect(), mappings.collect())
            })
            .collect()
    }

    fn runner(cases: u32) -> TestRunner {
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
    }

    #[test]
    fn the_search_finds_exactly_what_trying_everything_finds() {
        let forest = World::open();
        let cases = (world(), prop::collection::vec(request(), 6));
        let check = |(nodes, requests): (Vec<Node>, Vec<Request>)| {
            forest.fill(nodes.clone());
            for request in requests {
                let listed = answers(&forest.search(&request));
                let set: BTreeSet<Answer> = listed.iter().cloned().collect();
                prop_assert_eq!(set.len(), listed.len(), "a candidate is listed twice");
                prop_assert_eq!(&set, &brute_force(&nodes, &request), "{:?}", request);
            }
            Ok(())
        };
        runner(60).run(&cases, check).unwrap();
    }

    #[test]
    fn every_candidate_can_be_allocated() {
        const CONSUMER: &str = "cccccccc-0000-0000-0000-000000000001";
        let forest = World::open();
        let check = |(nodes, request): (Vec<Node>, Request)| {
            forest.fill(nodes);
            let found = forest.search(&request);
            for candidate in &found.candidates {
                let shares = candidate.resources.iter().map(|(provider, amounts)| model::Share {
                    provider: found.uuids[provider].clone(),
                    amounts: amounts.iter().map(|(class, amount)| (found.classes[class].clone(), *amount)).collect(),
                });
                let wanted = model::Request {
                    consumer: CONSUMER.to_owned(),
                    expected: model::Expected::Any,
                    owner: None,
                    consumer_type: None,
                    shares: shares.collect(),
                };
                // Taken and given back, so that each candidate meets the same world.
                let fits = forest.runtime.block_on(forest.db.write(move |tx| {
                    allocations::replace(tx, &[wanted], "now")?;
                    allocations::delete(tx, CONSUMER)
                }));
                prop_assert!(fits.is_ok(), "{:?} of {:?}", fits, candidate);
            }
            Ok(())
        };
        runner(30).run(&(world(), request()), check).unwrap();
    }

    #[test]
    fn a_request_whose_combinations_explode_still_ends() {
        let node =
            Node { parent: None, totals: [2, 0, 0], traits: [false; 2], aggregates: [true, false], shares: true };
        let forest = World::open();
        forest.fill(vec![node; 40]);
        let groups = (0..20).map(|at| Group {
            suffix: format!("_{at}"),
            amounts: vec![("VCPU".to_owned(), 1)],
            ..Group::default()
        });
        let request = Request { groups: groups.collect(), isolate: true, nested: true, ..Request::default() };
        let found = forest.search(&request);
        assert!(!found.candidates.is_empty() && found.candidates.len() <= MAX_AMOUNTS / 20);
        assert_eq!(forest.search(&Request { limit: Some(3), ..request }).candidates.len(), 3);
    }
}
