//! Who plays: one FinService, its CanaryRollout, and three releases. Pure.

use serde_json::{Value, json};

use crate::api::finservice::image_without_registry;
use crate::api::units;
use crate::api::{CanaryRollout, FinService};
use crate::sandbox::error::{Context, Error, Result};

/// Percent of its requests that the bad release fails.
pub const BAD: f64 = 20.0;
/// Requests a second that the users send.
pub const RATE: f64 = 200.0;

/// What the tour is played with.
#[derive(Debug, Clone)]
pub struct Script {
    /// The namespace of both.
    pub namespace: String,
    /// The name of the CanaryRollout.
    pub rollout: String,
    /// The name of the FinService.
    pub service: String,
    /// Its host at the gateway.
    pub host: String,
    /// A path of it that goes to the service.
    pub path: String,
    /// The images: the first, the good one, the bad one.
    pub images: [String; 3],
    /// The policy, as it is written.
    pub policy: Value,
    /// The weights of its steps, in percent.
    pub weights: Vec<i32>,
    replicas: i32,
    objects: Vec<Value>,
    place: usize,
}

impl Script {
    /// Takes the first CanaryRollout of the objects, and the FinService that it is for.
    ///
    /// # Errors
    /// When there is none, or the FinService has no host at a gateway, or names its releases by itself.
    pub fn of(objects: &[Value]) -> Result<Self> {
        let found = objects.iter().find(|object| object["kind"] == "CanaryRollout");
        let found = found.ok_or_else(|| Error::new("a tour needs a CanaryRollout among its objects"))?;
        let rollout: CanaryRollout =
            serde_json::from_value(found.clone()).context(|| "reading the tour's CanaryRollout")?;
        let namespace = rollout.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = &rollout.spec.service;
        let is_it = |object: &Value| {
            object["kind"] == "FinService"
                && object["metadata"]["name"] == name.as_str()
                && object["metadata"]["namespace"].as_str().unwrap_or("default") == namespace
        };
        let place = objects.iter().position(is_it).ok_or_else(|| {
            Error::new(format!("a tour needs the FinService {namespace}/{name} beside its CanaryRollout"))
        })?;
        let service: FinService =
            serde_json::from_value(objects[place].clone()).context(|| "reading the tour's FinService")?;
        if service.spec.version.is_some() {
            return Err(Error::new(format!(
                "leave out spec.version of the FinService {namespace}/{name}: the tour's releases are called by their images"
            )));
        }
        let ingress =
            service.spec.ingress.as_ref().and_then(|ingress| Some((ingress, ingress.hosts.first()?)));
        let (ingress, host) = ingress.ok_or_else(|| {
            Error::new(format!("the FinService {namespace}/{name} needs spec.ingress with a host"))
        })?;
        let path = ingress.paths.as_ref().and_then(|paths| paths.first());
        let canary = rollout.spec.strategy.canary.as_ref().ok_or_else(|| {
            Error::new("a tour needs strategy.canary: with blueGreen nothing is compared before the switch")
        })?;
        let image = &service.spec.image;
        Ok(Self {
            rollout: rollout.metadata.name.clone().unwrap_or_default(),
            service: name.clone(),
            host: host.clone(),
            path: path.cloned().unwrap_or_else(|| "/".to_owned()),
            images: [image.clone(), later(image, 1), later(image, 2)],
            policy: found["spec"].clone(),
            weights: canary.steps.iter().map(|step| step.weight).collect(),
            replicas: objects[place]["spec"]["scale"]["replicas"]
                .as_i64()
                .and_then(|replicas| i32::try_from(replicas).ok())
                .unwrap_or(2),
            objects: objects.to_vec(),
            place,
            namespace,
        })
    }

    /// All objects, with the FinService at an image.
    pub fn objects(&self, image: &str) -> Vec<Value> {
        let mut objects = self.objects.clone();
        objects[self.place]["spec"]["image"] = image.into();
        objects
    }

    /// What the status calls the release of an image.
    pub fn release(image: &str) -> &str {
        image_without_registry(image)
    }

    /// A release as it is called before people: the last part of its image.
    pub fn short(image: &str) -> &str {
        image.rsplit('/').next().unwrap_or(image)
    }

    /// How a person would ask for an image.
    pub fn command(&self, image: &str, kubeconfig: &str) -> String {
        format!(
            "kubectl --kubeconfig {kubeconfig} patch finservice {} -n {} --type merge -p '{}'",
            self.service,
            self.namespace,
            json!({"spec": {"image": image}})
        )
    }

    /// How a person would try the release again that went back.
    pub fn retry(&self, kubeconfig: &str) -> String {
        format!("banyan canary retry {} -n {} --kubeconfig {kubeconfig}", self.rollout, self.namespace)
    }

    /// The tour as a story for `banyan simulate`.
    pub fn story(&self) -> Value {
        let [first, good, bad] = self.images.each_ref().map(|image| Self::short(image));
        let interval = self.policy["analysis"]["interval"].as_str();
        let tick = interval.filter(|text| units::duration(text).is_some()).unwrap_or("5s");
        json!({
            "about": format!("{good} is good; {bad} fails {BAD} % of its requests."),
            "rollout": self.policy,
            "service": {"replicas": self.replicas, "provider": "GatewayAPI", "startup": "2s"},
            "tick": tick,
            "release": first,
            "requests": RATE,
            "lasts": "10m",
            "events": [
                {"at": "0s", "errors": {bad: BAD.to_string()}},
                {"at": "10s", "deploy": good},
                {"at": "5m", "deploy": bad},
            ],
        })
    }
}

/// The image of a later release: `app:1.0.0` becomes `app:1.1.0`; what has no such tag gets a number.
fn later(image: &str, by: u32) -> String {
    let parts = image.rsplit_once(':').and_then(|(name, tag)| {
        let numbers: Vec<u32> = tag.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        match numbers[..] {
            [major, minor, _] => Some(format!("{name}:{major}.{}.0", minor.checked_add(by)?)),
            _ => None,
        }
    });
    parts.unwrap_or_else(|| {
        // The last part is a tag only where no path follows it.
        let tagged = image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        format!("{image}{}{by}", if tagged { "-" } else { ":" })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sandbox::payload::Payload;

    pub fn script() -> Script {
        Script::of(&Payload::embedded().unwrap().tour).unwrap()
    }

    #[test]
    fn later_releases_are_called_as_people_call_them() {
        for (image, wanted) in [
            ("registry.example/shop/app:1.0.0", "registry.example/shop/app:1.2.0"),
            ("registry.example:5000/app", "registry.example:5000/app:2"),
            ("app:blue", "app:blue-2"),
        ] {
            assert_eq!(later(image, 2), wanted);
        }
    }

    #[test]
    fn the_example_is_read_and_changed_in_its_image_alone() {
        let script = script();
        assert_eq!(script.weights, [10, 50, 100]);
        assert_eq!(script.host, "checkout.shop.example");
        let (before, after) = (script.objects(&script.images[0]), script.objects(&script.images[1]));
        let differing = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert_eq!((differing, before.len() - differing), (1, 2));
        assert_eq!(Script::release(&script.images[1]), "shop/checkout:1.1.0");
        assert!(script.command(&script.images[1], "k").contains(r#"'{"spec":{"image":"registry.example/"#));
    }

    #[test]
    fn what_a_tour_cannot_be_played_with_is_named() {
        let objects = Payload::embedded().unwrap().tour;
        let without = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut objects = objects.clone();
            change(&mut objects);
            Script::of(&objects).unwrap_err().to_string()
        };
        assert!(without(&|objects| objects.truncate(2)).contains("CanaryRollout"));
        assert!(without(&|objects| drop(objects.remove(1))).contains("FinService shop/checkout"));
        assert!(without(&|objects| objects[1]["spec"]["version"] = "1".into()).contains("spec.version"));
        let spec = |objects: &mut Vec<Value>| objects[1]["spec"].as_object_mut().unwrap().remove("ingress");
        assert!(without(&|objects| drop(spec(objects))).contains("spec.ingress"));
    }
}
