//! Two clouds that know each other, and a group between them: real API servers, real PostgreSQL, a client that writes.

mod away;
mod faults;
mod many;
mod moves;
mod orders;
mod rest;
mod stage;

use std::time::Duration;

use banyan::api::failovergroup::{Check, CheckState};
use banyan::api::{Authority, FailoverGroup, FinService};
use banyan::sandbox::install;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use self::stage::{AWS, GCP, GROUP, NAMESPACE, Stage, check, command, is_ready, service, state};
use crate::in_sync::is_in_sync;
use crate::peers::until;

/// What a variable of the environment says.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn job(name: &str, scheduled: Option<&str>) -> Job {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "a", "image": "registry.example/a:1"}]}}}});
    if let Some(at) = scheduled {
        job["metadata"]["annotations"] = json!({"batch.kubernetes.io/cronjob-scheduled-timestamp": at});
    }
    serde_json::from_value(job).unwrap()
}

/// The standing answer, as on-call asks for it in that cloud.
fn ready_command(stage: &Stage, place: usize, args: &[&str]) -> (Option<i32>, String) {
    let (code, text) = command(stage, place, &[&["failover", "ready"], args].concat());
    // What is not ready is said once more at the end.
    (
        code,
        text.lines()
            .filter(|line| !line.starts_with("banyan: not ready"))
            .map(|line| format!("{line}\n"))
            .collect(),
    )
}

#[tokio::test]
async fn a_group_is_taken_into_a_running_platform_and_each_site_knows_whether_it_could_take_over() {
    let _turn = crate::world::with_two_clouds().await;
    let Some(mut stage) = Stage::start().await else { return };
    let before = [stage.pods(AWS).await, stage.pods(GCP).await];
    let writer = stage.postgres.client();

    // Nobody has authority: nothing is stopped, nothing changes.
    stage.apply(false).await;
    for place in [AWS, GCP] {
        let why = stage
            .told(place, "it is told that nobody has authority", |group| {
                let found = check(group, "authority").filter(|check| check.state == CheckState::Failed)?;
                Some(found.message.clone())
            })
            .await;
        assert!(why.contains("nobody ever had authority"), "{why}");
        assert_eq!(stage.pods(place).await, before[place], "no pod is touched");
    }
    assert!(stage.witness.keys().iter().all(|key| !key.contains("after/")), "nothing is decided");

    // The initial site takes it, once all were read and know of none.
    stage.apply(true).await;
    stage.told(AWS, "AWS has authority", |group| (state(group) == Some("Held")).then_some(())).await;
    stage
        .told(GCP, "Google's cloud stands by", |group| (state(group) == Some("Standby")).then_some(()))
        .await;
    let here = stage.authority(AWS).await.expect("an Authority").spec;
    let there = stage.authority(GCP).await.expect("an Authority").spec;
    assert_eq!((here.epoch, here.follows, here.promoted), (16, 0, Some(16)));
    assert_eq!(here.holders, [stage.names[AWS].clone()]);
    assert_eq!((there.epoch, &there.holders, there.promoted), (16, &here.holders, None));
    let decided = stage.witness.keys().into_iter().filter(|key| key.ends_with("after/0")).count();
    assert_eq!(decided, 1, "{:?}", stage.witness.keys());
    assert_eq!(stage.pods(AWS).await, before[AWS], "no pod of the active site is touched");
    until("consumers of the standby have ended, and nothing else", async || {
        let now = stage.pods(GCP).await;
        (now.get("ledger") == before[GCP].get("ledger") && !now.contains_key("consumer")).then_some(())
    })
    .await;

    // What stands by could take over, and says so on the command line.
    stage.told(GCP, "a failover could be ordered", is_ready).await;
    let (code, text) = ready_command(&stage, GCP, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("payments  True"), "{text}");
    let (code, text) = ready_command(&stage, GCP, &[GROUP, "--output", "json"]);
    let group: FailoverGroup = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(0));
    assert!(group.status.expect("a status").plan.is_some_and(|plan| plan.steps.len() == 10));

    if number("BANYAN_MANY").is_some() {
        many::groups_move_together_in_their_order(&stage).await;
        return stage.two.pair.stop().await.unwrap();
    }
    jobs_run_where_authority_is(&stage).await;
    authorities_are_written_by_operators_alone(&stage).await;
    at_rest_nothing_is_written(&stage).await;
    what_breaks_is_told_and_told_again_when_it_is_well(&stage).await;
    away::the_authority_deployment_answers_alone(&mut stage).await;

    let tally = writer.tally();
    writer.stop();
    let all_well = !tally.acknowledged.is_empty() && tally.unanswered == 0 && tally.wrong_reads == 0;
    assert!(all_well, "no session was ended, no write was lost: {tally:?}");
    orders::a_plan_and_a_rehearsal_take_nothing_from_anybody(&stage).await;
    orders::who_ordered_a_move_cannot_agree_to_it(&stage).await;
    moves::what_was_closed_is_open_again_once_a_move_is_given_up(&stage).await;
    moves::a_switchover_loses_nothing_and_goes_on_where_its_operator_was_killed(&mut stage).await;
    nothing_that_was_moved_differs_from_git(&stage).await;
    nothing_that_anybody_can_read_says_a_secret(&stage).await;
    moves::a_cloud_that_is_lost_is_taken_over(&mut stage).await;
    moves::what_stands_is_explained(&stage).await;
    moves::what_was_done_is_on_record(&stage).await;
    many::groups_move_together_in_their_order(&stage).await;
    a_group_that_is_gone_releases_its_authority(&stage).await;
    stage.two.pair.stop().await.unwrap();
}

async fn jobs_run_where_authority_is(stage: &Stage) {
    let jobs = |place: usize| Api::<Job>::namespaced(stage.admin(place), NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let refused = until("the policy is in force", async || {
        jobs(GCP).create(&dry, &job("settlement", None)).await.err().map(|error| error.to_string())
    })
    .await;
    assert!(refused.contains("has no authority over FailoverGroup payments"), "{refused}");
    jobs(AWS).create(&dry, &job("settlement", Some("2026-01-01T00:00:00Z"))).await.expect("it may run");
    for (place, expected) in [(AWS, "true"), (GCP, "false")] {
        let maps: Api<ConfigMap> = Api::namespaced(stage.admin(place), NAMESPACE);
        let map =
            until("applications are told", async || maps.get_opt("banyan-authority-payments").await.ok()?)
                .await;
        let data = map.data.unwrap_or_default();
        assert_eq!((data["authority"].as_str(), data["epoch"].as_str()), (expected, "16"), "{data:?}");
    }
}

async fn authorities_are_written_by_operators_alone(stage: &Stage) {
    let api: Api<Authority> = Api::namespaced(stage.admin(GCP), "banyan-system");
    let patch = json!({"spec": {"epoch": 99, "holders": [stage.names[GCP]]}});
    let error =
        api.patch(GROUP, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap_err().to_string();
    assert!(error.contains("operators alone write Authorities"), "{error}");
    let error = api.delete(GROUP, &DeleteParams::default()).await.unwrap_err().to_string();
    assert!(error.contains("delete the FailoverGroup first"), "{error}");
}

async fn at_rest_nothing_is_written(stage: &Stage) {
    let versions = async || {
        let mut all = Vec::new();
        for place in [AWS, GCP] {
            let group = stage.status(place).await.expect("a group").resource_version();
            all.push((group, stage.authority(place).await.expect("one").resource_version()));
        }
        all
    };
    // What is measured for the first time settles within a round of each source.
    let mut before = versions().await;
    let mut counted = rest::Counted::begin(stage).await;
    until("it has settled", async || {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let now = versions().await;
        let same = now == before;
        before = now;
        if !same {
            counted = rest::Counted::begin(stage).await;
        }
        same.then_some(())
    })
    .await;
    counted.compare(stage).await;
}

async fn what_breaks_is_told_and_told_again_when_it_is_well(stage: &Stage) {
    let failed = |name: &'static str, words: &'static str| {
        move |group: &FailoverGroup| {
            let found = check(group, name).filter(|found| found.state < CheckState::Warning)?;
            (found.message.contains(words) && is_ready(group).is_none()).then_some(())
        }
    };
    // The witness.
    stage.witness.end.desk.always(|_| true, banyan::sandbox::ends::server::Fault::status(503));
    stage.told(GCP, "the witness is away", failed("witness", "the witness cannot be")).await;
    let (code, text) = ready_command(stage, GCP, &[GROUP]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("the witness cannot be read"), "{text}");
    stage.witness.end.desk.behave();
    stage.told(GCP, "the witness is back", is_ready).await;

    // The way between the servers of the database.
    stage.postgres.doors.iter().for_each(|door| door.cut());
    stage.postgres.doors.iter().for_each(|door| door.silence());
    stage
        .told(GCP, "the standby receives nothing", |group| {
            let broken =
                |check: &&Check| check.name.contains("ledger-db") && check.state < CheckState::Warning;
            group.status.as_ref()?.checks.iter().find(broken).map(|_| ())
        })
        .await;
    stage.postgres.doors.iter().for_each(|door| door.heal());
    stage.told(GCP, "the standby follows again", is_ready).await;

    // A service that is well at one site only.
    let services: Api<FinService> = Api::namespaced(stage.admin(GCP), NAMESPACE);
    let extra = service("extra", json!({}));
    install::apply(&stage.admin(GCP), &[extra]).await.unwrap();
    stage
        .told(
            GCP,
            "a service is at one site only",
            failed("releases at aws-us-east-1", "pay/extra only here"),
        )
        .await;
    services.delete("extra", &DeleteParams::default()).await.unwrap();
    stage.told(GCP, "both sites have the same again", is_ready).await;
}

/// The group has moved there and back: neither it nor its services are OutOfSync.
async fn nothing_that_was_moved_differs_from_git(stage: &Stage) {
    for place in [AWS, GCP] {
        for git in stage.services().into_iter().chain([stage.group(true)]) {
            is_in_sync(&stage.admin(place), install::FIELD_MANAGER, &git).await;
        }
    }
}

/// After all that went wrong before.
async fn nothing_that_anybody_can_read_says_a_secret(stage: &Stage) {
    for place in [AWS, GCP] {
        let mut told = stage.two.told_of(place).await;
        let answers = &stage.answers[place];
        told.log(answers.log());
        let pages = ["/authority", "/authority/payments", "/authority/other", "/healthz", "/readyz"];
        told.pages(answers.url(), &pages).await;
        let kinds = [
            "/events",
            "/configmaps",
            "banyan.dev/authorities",
            "banyan.dev/cloudclusters",
            "banyan.dev/failovergroups",
        ];
        told.has_no(&stage.secrets(), &kinds);
    }
}

async fn a_group_that_is_gone_releases_its_authority(stage: &Stage) {
    let groups: Api<FailoverGroup> = Api::namespaced(stage.admin(GCP), "banyan-system");
    groups.delete(GROUP, &DeleteParams::default()).await.expect("deleted");
    let api: Api<Authority> = Api::namespaced(stage.admin(GCP), "banyan-system");
    until("the Authority may be deleted", async || api.delete(GROUP, &DeleteParams::default()).await.ok())
        .await;
    let jobs: Api<Job> = Api::namespaced(stage.admin(GCP), NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("Jobs are taken again", async || jobs.create(&dry, &job("settlement", None)).await.ok()).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.admin(GCP), NAMESPACE);
    until("applications are told nothing more", async || {
        maps.get_opt("banyan-authority-payments").await.ok()?.is_none().then_some(())
    })
    .await;
}
