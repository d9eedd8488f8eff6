//! The witness of a FailoverGroup: where it is kept which epoch followed which, on ground that is neither cloud.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;

/// Where both sites of a group find which epoch followed which, and only one of two that want to succeed an epoch
/// can write that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WitnessSpec {
    /// Object storage. It should stand in neither cloud of the group: what takes a cloud must not take the witness
    /// with it.
    pub object_store: ObjectStoreWitness,
}

/// A place in object storage that belongs to one group alone. Objects are made there only where none stands, so the
/// store must refuse a conditional write (S3, R2, Google Cloud Storage and Azure do).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.url.startsWith('s3://') || has(self.region) || has(self.endpoint)")
    .message("url with s3:// needs region, that of the bucket (such as us-east-2), or endpoint, for a store that is not Amazon's"))]
#[x_kube(validation = Rule::new("self.url.startsWith('s3://') || !has(self.region)")
    .message("region is for a url with s3://: leave it out"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('az://') || has(self.endpoint)")
    .message("url with az:// needs endpoint, that of the storage account, such as https://ACCOUNT.blob.core.windows.net"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('file://') || (!has(self.endpoint) && !has(self.credentials))")
    .message("a url with file:// is a folder that is mounted at both sites: leave out endpoint and credentials"))]
pub struct ObjectStoreWitness {
    /// Bucket (or container) and prefix: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; or
    /// `file:///folder`, which both sites must have mounted. No other group may use the same prefix.
    #[schemars(length(min = 6, max = 512), regex(pattern = patterns::WITNESS_URL))]
    pub url: String,
    /// The bucket's region, for S3. Not needed with `endpoint`, where it defaults to `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::WITNESS_REGION))]
    pub region: Option<String>,
    /// Where the store answers, if that is not the maker's own address. TLS, except to this machine itself. For Azure
    /// it names the storage account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = patterns::WITNESS_ENDPOINT))]
    pub endpoint: Option<String>,
    /// With what the store is asked. Defaults to what the operator's pod is given as its own identity (IRSA or EKS Pod
    /// Identity for S3, a file named by GOOGLE_APPLICATION_CREDENTIALS for Google, workload identity for Azure); a
    /// machine's identity is never used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<WitnessCredentials>,
}

/// With what the store is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WitnessCredentials {
    /// The Secret, in the operator's own namespace.
    pub secret_ref: WitnessSecret,
}

/// A Secret with the credentials of an object store, under the names that its maker's own tools use: for S3
/// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`), for Google `credentials.json` (a service
/// account's key), for Azure `AZURE_STORAGE_KEY` or `AZURE_STORAGE_SAS_TOKEN` (and `AZURE_STORAGE_ACCOUNT` where the
/// endpoint does not begin with it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WitnessSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

#[cfg(test)]
mod tests {
    use kube::core::cel::Validator;
    use kube::{CustomResource, CustomResourceExt};
    use serde_json::{Value, json};

    use super::*;

    /// Something that has a witness.
    #[derive(CustomResource, Clone, Debug, Serialize, Deserialize, KubeSchema)]
    #[kube(group = "banyan.dev", version = "v1alpha1", kind = "Witnessed")]
    struct WitnessedSpec {
        witness: WitnessSpec,
    }

    /// What is said of a witness, by the rules of the definition.
    fn said(object_store: Value) -> Vec<String> {
        let crd = crate::api::schema::bounded(Witnessed::crd());
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("a schema is JSON");
        let object = json!({"spec": {"witness": {"objectStore": object_store}}});
        match Validator::new().validate(&schema["openAPIV3Schema"], &object, None) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
        }
    }

    #[test]
    fn a_witness_that_can_be_is_accepted() {
        let secret = json!({"secretRef": {"name": "witness"}});
        for witness in [
            json!({"url": "s3://banyan-witness/payments", "region": "us-east-2", "credentials": secret}),
            json!({"url": "s3://banyan-witness/a/b.c/", "endpoint": "https://account.r2.cloudflarestorage.com"}),
            json!({"url": "s3://witness", "region": "us-east-2", "endpoint": "http://127.0.0.1:9000"}),
            json!({"url": "gs://banyan_witness/payments"}),
            json!({"url": "gs://witness", "endpoint": "http://[::1]:4443"}),
            json!({"url": "az://witness/p", "endpoint": "https://finflow.blob.core.windows.net"}),
            json!({"url": "file:///mnt/witness"}),
        ] {
            assert_eq!(said(witness.clone()), Vec::<String>::new(), "{witness}");
        }
    }

    #[test]
    fn what_could_not_work_is_refused_with_a_remedy() {
        let url = "must be s3://bucket/prefix,";
        let endpoint = "must begin with https://";
        for (witness, words) in [
            (json!({"url": "s3://w", "region": "a"}), url),
            (json!({"url": "http://witness/p"}), url),
            (json!({"url": "file://mnt/witness"}), url),
            (json!({"url": "file:///"}), url),
            (json!({"url": "gs://witness/../other"}), url),
            (json!({"url": "gs://witness//p"}), url),
            (json!({"url": "gs://witness/p?x"}), url),
            (json!({"url": "gs://witness/p", "endpoint": "http://objects.example"}), endpoint),
            (json!({"url": "gs://witness/p", "endpoint": "http://localhost.example"}), endpoint),
            (json!({"url": "gs://witness/p", "endpoint": "https://key:secret@objects.example"}), endpoint),
            (json!({"url": "gs://witness/p", "endpoint": "objects.example"}), endpoint),
            (json!({"url": "s3://witness/p"}), "url with s3:// needs region"),
            (
                json!({"url": "s3://witness/p", "region": "US East"}),
                "must be a cloud's region, such as us-east-2",
            ),
            (
                json!({"url": "gs://witness/p", "region": "us"}),
                "region is for a url with s3://: leave it out",
            ),
            (json!({"url": "az://witness/p"}), "url with az:// needs endpoint"),
            (json!({"url": "file:///w", "endpoint": "https://a.example"}), "a url with file:// is a folder"),
            (
                json!({"url": "file:///w", "credentials": {"secretRef": {"name": "a"}}}),
                "a url with file:// is a folder",
            ),
        ] {
            let said = said(witness.clone());
            assert!(said.len() == 1 && said[0].starts_with(words), "{witness}: {said:?}");
        }
    }
}
