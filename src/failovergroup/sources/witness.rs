//! Asks the witness of a group: what was decided there, and whether something could be decided now.

use std::time::Duration;

use jiff::Timestamp;

use super::group::{OfGroup, SECRETS_EVERY};
use crate::api::Problem;
use crate::api::cloudcluster::WayKind;
use crate::api::witness::ObjectStoreWitness;
use crate::cloudcluster::sites::Described;
use crate::witness::{Cloud, Creation, Credentials, Decision, Ground, Unfit, Witness, connect};

/// How often. What is decided there is also shown by whoever decided it.
const EVERY: Duration = Duration::from_secs(60);
/// In how many rounds it is looked once whether it can be written.
const FIT_EVERY: u32 = 10;
/// How soon it is asked again after it failed.
const AGAIN: Duration = Duration::from_secs(10);
/// How soon it is asked once more before it is said that it cannot be read, where it could before: a Failover would ask a
/// person for a second assertion.
const DOUBTED: Duration = Duration::from_secs(2);

/// Asks for ever; ends where the group has none.
pub async fn run(of: OfGroup) {
    let Some(spec) = of.spec.witness.clone() else { return };
    let site = of.all.context.site.to_string();
    let mut made: Option<Witness> = None;
    let mut sound = 0u32;
    for round in 0u32.. {
        if made.is_none() || round % SECRETS_EVERY == 0 {
            match make(&of, &spec.object_store).await {
                Ok(witness) => made = Some(witness),
                Err(problem) => {
                    of.found(|asked| asked.witness = Some(Err((problem.message, problem.remedy))));
                    of.all.rest(AGAIN, round).await;
                    continue;
                }
            }
        }
        let Some(witness) = &made else { continue };
        // Whether it can be written is looked at less often: that reads it once more.
        let fit = if sound.is_multiple_of(FIT_EVERY) {
            witness.health(&site, Timestamp::now()).await.map(|_| ())
        } else {
            Ok(())
        };
        let mut answer = match fit {
            Ok(()) => witness.list().await.map_err(Unfit::NotReadable),
            Err(unfit) => Err(unfit),
        };
        if sound > 0 && matches!(answer, Err(Unfit::NotReadable(_))) {
            tokio::time::sleep(of.all.ends.every(DOUBTED)).await;
            answer = witness.list().await.map_err(Unfit::NotReadable);
        }
        let answer = answer.map_err(|unfit| (unfit.to_string(), unfit.remedy().to_owned()));
        let failed = answer.is_err();
        sound = if failed { 0 } else { sound.wrapping_add(1) };
        if failed {
            // Credentials that are refused may have been renewed.
            made = None;
        }
        of.found(|asked| asked.witness = Some(answer));
        of.all.rest(if failed { AGAIN } else { EVERY }, round).await;
    }
}

/// Has the witness decide which epoch follows one, and takes in what stands there then.
///
/// # Errors
/// Why it does not, in a sentence.
pub async fn decide(
    of: &OfGroup,
    spec: &ObjectStoreWitness,
    after: i64,
    wanted: Decision,
) -> Result<Decision, String> {
    let made = make(of, spec).await.map_err(|problem| format!("{}; {}", problem.message, problem.remedy))?;
    let stands = match made.create(after, &wanted).await {
        Ok(Creation::Created) => wanted,
        Ok(Creation::Exists(other)) => other,
        Err(error) => return Err(error.to_string()),
    };
    of.found(|asked| {
        let mut all = asked.witness.take().and_then(Result::ok).unwrap_or_default();
        all.insert(after, stands.clone());
        asked.witness = Some(Ok(all));
    });
    Ok(stands)
}

/// A witness that can be asked at this moment.
async fn make(of: &OfGroup, spec: &ObjectStoreWitness) -> Result<Witness, Problem> {
    let ground = Ground::of(spec)?;
    let clouds =
        of.spec.sites.iter().filter_map(|site| Some((site.as_str(), cloud_of(&of.described(site)?)?)));
    let stands_in = ground.own_cloud(clouds);
    of.found(|asked| asked.witness_ground = stands_in);
    let credentials = match &spec.credentials {
        None => {
            Credentials::of_pod(&ground, |name| std::env::var(name).ok(), |path| std::fs::read(path).ok())?
        }
        Some(named) => {
            let data = of.secret(crate::witness::ground::SOURCE, &named.secret_ref.name).await?;
            Credentials::of_secret(&ground, &named.secret_ref.name, &data)?
        }
    };
    Ok(Witness::new(connect(&ground, &credentials)?, &*of.name))
}

/// The cloud of a site, by the ways that lead to it.
fn cloud_of(site: &Described) -> Option<Cloud> {
    site.kinds.iter().find_map(|kind| match kind {
        WayKind::Eks => Some(Cloud::Aws),
        WayKind::Gke => Some(Cloud::Google),
        WayKind::Kubeconfig => None,
    })
}
