//! Amazon EC2, as far as the machines of a cluster are found there.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::eks::{Aws, Machine, Refusal};
use super::signature::{Signed, decoded, pairs};
use crate::runtime::lock::lock;

/// How many machines are on a page, so that there are several.
const PAGE: usize = 2;

impl Aws {
    pub(super) fn ec2(&self, request: &Signed) -> Response {
        let (status, body) = match self.signer(request, "ec2").and_then(|_| self.described(request)) {
            Ok(body) => (200, body),
            Err((status, code, words)) => {
                // EC2 has another word for who is not known.
                let (status, code) = match code {
                    "InvalidClientTokenId" | "SignatureDoesNotMatch" => (401, "AuthFailure"),
                    code => (status, code),
                };
                let error = format!("<Error><Code>{code}</Code><Message>{words}</Message></Error>");
                (status, format!("<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>"))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
    }

    fn described(&self, request: &Signed) -> Result<String, Refusal> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let form: BTreeMap<String, String> =
            pairs(&body).map(|(name, value)| (name, decoded(&value.replace('+', " ")))).collect();
        let values = |number: usize| {
            let name = format!("Filter.{number}.Value.");
            form.iter()
                .filter(|(field, _)| field.starts_with(&name))
                .map(|(_, value)| value.as_str())
                .collect::<Vec<_>>()
        };
        let (by, wanted, states) =
            (form.get("Filter.1.Name").map(String::as_str).unwrap_or_default(), values(1), values(2));
        let is = |machine: &Machine| match by {
            "tag-key" => wanted.contains(&format!("kubernetes.io/cluster/{}", machine.cluster).as_str()),
            "tag:aws:autoscaling:groupName" => wanted.contains(&machine.group.as_str()),
            _ => true,
        };
        let from: usize = form.get("NextToken").and_then(|token| token.parse().ok()).unwrap_or_default();
        let state = lock(&self.0);
        let mut found =
            state.machines.iter().filter(|machine| is(machine) && states.contains(&machine.state)).skip(from);
        let item = |machine: &Machine| {
            format!(
                "<item><reservationId>r</reservationId><instancesSet><item><instanceId>{}</instanceId><instanceState>\
                 <code>16</code><name>{}</name></instanceState></item></instancesSet></item>",
                machine.id, machine.state
            )
        };
        let items: String = found.by_ref().take(PAGE).map(item).collect();
        let next = match found.next() {
            Some(_) => format!("<nextToken>{}</nextToken>", from + PAGE),
            None => String::new(),
        };
        Ok(format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>0</requestId>\
             <reservationSet>{items}</reservationSet>{next}</DescribeInstancesResponse>"
        ))
    }
}
