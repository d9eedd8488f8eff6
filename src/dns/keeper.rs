//! Pure. How others mark records as their own.

/// Who keeps records of `host`, if this TXT record says so: external-dns writes one beside each record of its own, under
/// the same name or with the record's type before it.
pub(super) fn of_registry(name: &str, content: &str, host: &str) -> Option<String> {
    let name = name.trim_end_matches('.');
    let of_host = name == host
        || name.strip_suffix(host).and_then(|before| before.strip_suffix('-')).is_some_and(|kind| {
            ["a", "aaaa", "cname"].iter().any(|known| kind == *known || kind.ends_with(&format!(".{known}")))
        });
    if !of_host || !content.contains("heritage=external-dns") {
        return None;
    }
    let owner = content.split(',').find_map(|part| part.split_once("external-dns/owner="));
    let owner = owner.map(|(_, owner)| owner.trim_matches('"')).filter(|owner| !owner.is_empty());
    Some(owner.map_or_else(|| "external-dns".to_owned(), |owner| format!("external-dns (owner {owner})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_dns_is_known_by_its_registry() {
        let text = "\"heritage=external-dns,external-dns/owner=prod,external-dns/resource=ingress/a/b\"";
        let of = |name: &str, text: &str| of_registry(name, text, "api.finflow.example");
        let who = Some("external-dns (owner prod)".to_owned());
        assert_eq!(of("api.finflow.example", text), who);
        assert_eq!(of("a-api.finflow.example.", text), who);
        assert_eq!(of("cname-api.finflow.example", text), who);
        assert_eq!(of("other-api.finflow.example", text), None);
        assert_eq!(of("api.finflow.example", "\"v=spf1 -all\""), None);
        assert_eq!(of("api.finflow.example", "heritage=external-dns"), Some("external-dns".to_owned()));
    }
}
