//! What a story does to the world.

use super::report::Line;
use super::story::{Breaks, Event, Killed};
use super::world::{World, at, seconds, share};
use crate::actions::Said;
use crate::canary::facts::Destination;

impl World {
    /// Something of the story happens.
    pub(super) fn happen(&mut self, event: &Event, now: f64) -> Option<Killed> {
        let mut words = Vec::new();
        if let Some(release) = &event.deploy {
            words.push(match &event.by {
                Some(who) => format!("the FinService asks for {release}, says {who}"),
                None => format!("the FinService asks for {release}"),
            });
            self.current = Some(release.clone());
            let who = event.by.clone().unwrap_or_else(|| "mia".to_owned());
            self.made_by = Some(who).filter(|who| !who.is_empty());
            self.cluster.arm(&Destination::Revision(release.clone()), release);
        }
        if event.unknown {
            words.push("what the FinService asks for cannot be known for now".to_owned());
            self.current = None;
        }
        if let Some(requests) = event.requests {
            words.push(format!("{requests} requests/s"));
            self.requests = requests;
        }
        for (kind, (name, rates)) in [
            ("fail", &event.errors),
            ("are slow", &event.slow),
            ("are bad", &event.bad),
            ("are refused", &event.refused),
        ]
        .into_iter()
        .enumerate()
        {
            for (release, rate) in rates.iter().flatten() {
                words.push(format!("{rate} % of the requests to {release} {name}"));
                self.cluster.rates.by_release[kind].insert(release.clone(), share(rate));
            }
        }
        if let Some(release) = &event.uncounted {
            words.push(format!("pods of {release} count no requests"));
            self.cluster.uncounted = Some(release.clone());
        }
        if let Some(outage) = &event.outage {
            words.push(format!("{} % of all requests fail for {}", outage.errors, outage.r#for));
            self.cluster.rates.outage = Some((now + seconds(&outage.r#for), share(&outage.errors)));
        }
        if let Some(breaks) = &event.breaks {
            let Breaks { release, from, errors } = breaks;
            words.push(format!("from {from} % on {release} makes {errors} % of all requests fail"));
            self.cluster.rates.breaks = Some((release.clone(), *from, share(errors)));
        }
        if let Some(blip) = &event.blip {
            words.push(format!("one pod of {} fails {} % for {}", blip.release, blip.errors, blip.r#for));
            let until = now + seconds(&blip.r#for);
            self.cluster.rates.blip = Some((blip.release.clone(), until, share(&blip.errors)));
        }
        if let Some(source) = event.source {
            words.push(format!("the source of the evidence: {source:?}"));
            self.source = source;
        }
        if let Some(control) = event.control {
            words.push(format!("the control plane of the mesh: {control:?}"));
            self.control = control;
        }
        for (release, state) in event.pods.iter().flatten() {
            words.push(format!("pods of {release}: {state:?}"));
            self.cluster.arm(&Destination::Revision(release.clone()), release).state = *state;
        }
        for (release, count) in event.restarts.iter().flatten() {
            words.push(format!("containers of {release} have restarted {count} times"));
            let arm = self.cluster.arm(&Destination::Revision(release.clone()), release);
            arm.pods.iter_mut().for_each(|pod| pod.restarts = *count);
        }
        if let Some(release) = &event.drain {
            words.push(format!("the pods of {release} are moved to other nodes"));
            self.cluster.drain(release);
        }
        words.extend(self.told(event, now));
        if let Some(replicas) = event.replicas {
            words.push(format!("the FinService asks for {replicas} pods"));
            self.story.service.replicas = replicas;
        }
        if let Some(hash) = &event.selector {
            words.push(format!("somebody makes the plain Service select {hash}"));
            self.selector = Some(hash.clone());
        }
        if let Some(killed) = event.killed {
            words.push(match killed {
                Killed::Between => "the operator is killed".to_owned(),
                Killed::BeforeStatus => "the operator is killed between weights and status".to_owned(),
            });
        }
        if !words.is_empty() {
            self.report.lines.push(Line::Story { at: now, words: words.join("; ") });
        }
        if let Some(policy) = &event.policy {
            self.policy_by = event.by.clone();
            let by = event.by.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
            self.report.lines.push(Line::Story { at: now, words: format!("the policy is changed{by}") });
            self.story.rollout = (**policy).clone();
            self.read_policy(now);
        }
        event.killed
    }

    /// What people and other clusters say.
    fn told(&mut self, event: &Event, now: f64) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(saying) = &event.say {
            let who = saying.who.clone().unwrap_or_else(|| "anna".to_owned());
            words.push(format!("{who} says {}", saying.verb.as_str()));
            self.said.push(Said {
                id: format!("action-{}", self.report.lines.len()),
                by: Some(who.clone()),
                who,
                verb: saying.verb,
                release: saying.release.clone().or(self.current.clone()),
                gate: saying.gate,
                words: saying.words.clone(),
                at: at(now),
            });
        }
        for (weight, state) in event.gate.iter().flatten() {
            words.push(format!("the gate before {weight} %: {state:?}"));
            self.gates.insert(*weight, *state);
        }
        for (cluster, state) in event.peer.iter().flatten() {
            words.push(format!("{cluster}: {state:?}"));
            self.peers.insert(cluster.clone(), (*state, now));
        }
        if let Some(standby) = event.standby {
            words.push(
                if standby { "this site sees no traffic" } else { "this site sees traffic" }.to_owned(),
            );
            self.standby = standby;
        }
        if let Some(freeze) = &event.freeze {
            self.frozen = Some(freeze.clone()).filter(|text| !text.is_empty());
            words.push(if freeze.is_empty() { "the Failover is over".to_owned() } else { freeze.clone() });
        }
        words
    }
}
