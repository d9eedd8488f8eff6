//! Two orders against each other, one in each cloud, at moments that chance chooses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use banyan::api::FailoverStatus;
use banyan::api::failover::{MoveAction, Phase};

use super::field::{Field, Group, lost, timeline, writes};
use super::number;
use crate::peers::until;

/// How many pairs; `BANYAN_DUELS` instead, where that is set.
const PAIRS: usize = 4;
/// How long an order waits for a person before what it asks for is typed.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest time between both orders, in milliseconds: as long as a move needs from its claim to its commit.
const APART: u64 = 900;
/// How late each write of the first order is taken at the most, in two of three pairs: so the source is closed for long, and
/// whoever serves there has something to take over, too.
const LATE: u64 = 450;
/// So many writes lie before the commit, more or less.
const WRITES: u64 = 16;

/// Chance that can be had once more.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        // Xorshift, by George Marsaglia.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Takes an order to its end, as people do: what it asks for is typed after a while. Says what was typed.
async fn ends(field: &Field, place: usize, name: &str) -> (FailoverStatus, Vec<String>) {
    let mut typed = Vec::new();
    let mut asked: Option<(String, Instant)> = None;
    let began = Instant::now();
    loop {
        let status = field.read(place, name).await.unwrap_or_default();
        if status.phase.is_some_and(Phase::is_over) {
            return (status, typed);
        }
        assert!(began.elapsed() < Duration::from_secs(180), "{name} does not end: {status:#?}");
        // A standby that does not follow yet follows by itself.
        let next = status.next.filter(|next| !next.contains("reprotect"));
        match (next, &asked) {
            (Some(next), Some((before, since))) if next == *before => {
                if since.elapsed() > PATIENCE {
                    let (message, stores) = (status.message.unwrap_or_default(), status.stores);
                    println!("at {place} it asks for {next}: {message}\n{stores:?}");
                    field.types_next(place, &next).await;
                    typed.push(next);
                    asked = None;
                }
            }
            (Some(next), _) => asked = Some((next, Instant::now())),
            (None, _) => asked = None,
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// What became of the order at the standby, and of the one at the site that had authority.
type Outcome = (&'static str, &'static str);

pub async fn two_orders_meet(field: &Field, group: &Group) {
    let pairs = number("BANYAN_DUELS").map_or(PAIRS, |pairs| pairs as usize);
    let seed = number("BANYAN_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    let mut chance = Chance(seed);
    println!("{pairs} pairs of orders, BANYAN_SEED={seed}");
    let writer = group.postgres.client();
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    let mut asked = 0;
    let (mut gaps, began) = (Duration::ZERO, Instant::now());
    for pair in 0..pairs {
        let (holder, epoch) = field.agreed(group).await;
        let standby = 1 - holder;
        field.could_move(group, standby).await;
        let promoted = timeline(group, holder).await;
        let planned = chance.below(2) == 0;
        let action = if planned { MoveAction::Switchover } else { MoveAction::Failover };
        // Mostly the standby is ordered first: whoever has authority, and serves, has nothing to take over.
        let late = chance.below(3).min(1) * (150 + chance.below(LATE - 150));
        let (first, second) = (chance.below(APART / 4), chance.below(APART + late * WRITES));
        let (here, there) = (format!("duel-{pair}"), format!("against-{pair}"));
        let slow = [group.kind.name.to_owned(), here.clone()];
        field.gate.slow(move |write| {
            let is = write.cloud == standby && slow.contains(&write.name);
            Duration::from_millis(if is { late } else { 0 })
        });
        let meet = |place: usize, action: MoveAction, name: String, delay: u64| async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            field.order(group, place, action, &name).await;
            ends(field, place, &name).await
        };
        let ((one, typed), (other, also)) = tokio::join!(
            meet(standby, action, here.clone(), first),
            meet(holder, MoveAction::Failover, there.clone(), second),
        );
        field.gate.open();
        asked += typed.len() + also.len();
        let told = format!(
            "pair {pair}: {} after {first} ms at {standby}, Failover after {second} ms at {holder}, each write {} ms late: {:?} ({}), {:?} ({}); typed {typed:?} {also:?}",
            action.as_str(),
            late,
            one.phase,
            one.message.as_deref().unwrap_or_default(),
            other.phase,
            other.message.as_deref().unwrap_or_default(),
        );
        println!("{told}");

        // One of them at the most has each epoch, and both operators say the same.
        let (now, after) = field.agreed(group).await;
        let committed = [(&one, standby), (&other, holder)]
            .into_iter()
            .filter(|(order, _)| order.committed_at.is_some())
            .collect::<Vec<_>>();
        let expected = committed.iter().max_by_key(|(order, _)| order.ballot);
        match expected {
            Some((last, place)) => {
                assert_eq!((now, Some(after)), (*place, last.ballot), "{told}");
                let first = committed.iter().min_by_key(|(order, _)| order.ballot).expect("one");
                assert_eq!(first.0.follows, Some(epoch), "{told}");
                if committed.len() == 2 {
                    assert_eq!(last.follows, first.0.ballot, "one came after the other: {told}");
                }
            }
            None => assert_eq!((now, after), (holder, epoch), "{told}"),
        }
        for order in [&one, &other] {
            let over = order.phase.expect("it is over");
            let message = order.message.as_deref().unwrap_or_default();
            // Who was overtaken between its commit and its opening says so.
            let overtaken = over == Phase::Superseded && message.starts_with("it was committed");
            assert_eq!(order.committed_at.is_some(), over == Phase::Done || overtaken, "{told}");
        }
        // Nothing was promoted twice.
        let mut places: Vec<_> = committed.iter().map(|(order, place)| (order.ballot, *place)).collect();
        places.sort_unstable();
        let places = std::iter::once(holder).chain(places.into_iter().map(|(_, place)| place));
        let places: Vec<_> = places.collect();
        // Who has authority, and takes it over from a claimant, has a primary already; and who was overtaken may have promoted
        // its own before.
        let most = places.windows(2).filter(|two| two[0] != two[1]).count() as u64;
        let least = u64::from(now != holder);
        let now_at = timeline(group, now).await;
        assert!((promoted + least..=promoted + most).contains(&now_at), "timeline {now_at}: {told}");
        one_store_serves(group, now).await;
        writes(&writer, 5).await;
        let word = |order: &FailoverStatus| order.phase.map_or("", Phase::as_str);
        *outcomes.entry((word(&one), word(&other))).or_default() += 1;
        gaps = gaps.max(writer.tally().longest_gap);
    }
    let (now, _) = field.agreed(group).await;
    let count = writer.tally().acknowledged.len();
    println!(
        "{pairs} pairs in {:.0?}: {outcomes:?}; {asked} times a person was asked; longest without writes {gaps:?}",
        began.elapsed()
    );
    assert_eq!(lost(group, now, &writer).await, 0, "of {count}");
    println!("0 of {count} acknowledged writes lost");
}

/// Exactly one server lets applications write.
async fn one_store_serves(group: &Group, place: usize) {
    let open = "select not pg_is_in_recovery() and coalesce((select open from banyan.authority), true)";
    let is = async |place: usize| {
        let rows = group.postgres.servers[place].sql(open).await.ok()?;
        Some(rows[0][0] == "t")
    };
    until("one store serves", async || {
        let there = is(1 - place).await;
        assert_ne!((is(place).await, there), (Some(true), Some(true)), "both serve");
        (is(place).await == Some(true)).then_some(())
    })
    .await;
}
