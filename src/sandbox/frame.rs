//! What of both tables fits on a terminal: what is wrong before what is well. Pure.

use super::failover::answers::{self, Answer};
use super::report::Seen;
use super::table;
use crate::terminal::size::Size;
use crate::terminal::words::{command, hang};

/// The tables with what is said `below` them, in as many lines as the terminal has room for. Where that is less than all, what is
/// said below goes first, then what is well is only counted, and then of what is not so much as there is room for. Each line ends
/// between words, and is ended.
pub(super) fn frame(seen: &Seen, below: &str, size: Size) -> String {
    let width = Some(size.width);
    // The cursor stands in the last line.
    let fits = |text: &String| text.lines().count() < size.height;
    let whole = seen.render(width);
    let below: String = below.lines().map(|line| hint(line, width)).collect();
    let (ill, well) = apart(&seen.rows, |row| !row.ready || !row.problem.is_empty());
    let (unfit, fit) = apart(&seen.answers, |answer: &Answer| answer.line.ready != "True");
    let all: Vec<&Answer> = seen.answers.iter().collect();
    let services = |shown: usize| {
        let mut text = if shown > 0 { table::render(&ill[..shown], width) } else { String::new() };
        text.push_str(&rest(ill.len() - shown, well.len(), width));
        text
    };
    let with_groups = |shown: usize, groups: &[&Answer], others: usize| {
        let mut text = services(shown);
        if !groups.is_empty() {
            text.push('\n');
            text.push_str(&answers::render(groups, width));
        }
        if others > 0 {
            text.push_str(&hang(
                "",
                "",
                &format!("{others} more answers about FailoverGroups are True."),
                width,
            ));
        }
        text
    };
    let mut shorter = vec![format!("{whole}{below}"), whole, with_groups(ill.len(), &all, 0)];
    shorter.push(with_groups(ill.len(), &unfit, fit.len()));
    shorter.extend((0..=ill.len()).rev().map(services));
    let last = shorter.pop().unwrap_or_default();
    shorter.into_iter().find(fits).unwrap_or(last)
}

fn apart<T>(all: &[T], is_ill: impl Fn(&T) -> bool) -> (Vec<&T>, Vec<&T>) {
    all.iter().partition(|one| is_ill(one))
}

/// What is not shown, as sentences.
fn rest(ill: usize, well: usize, width: Option<usize>) -> String {
    let mut text = String::new();
    if ill > 0 {
        let words = format!(
            "{ill} more need attention: make the window larger, or ask each cloud with `banyan status --all-namespaces`."
        );
        text.push_str(&hang("", "", &words, width));
    }
    if well > 0 {
        text.push_str(&hang("", "", &format!("{well} are Ready, without a problem."), width));
    }
    text
}

/// A line that holds a command, behind its indent, and what it does behind a `#`, which stands before it where both have no room
/// in one line: a shell reads on behind a break only outside of comments.
fn hint(line: &str, width: Option<usize>) -> String {
    let typed = line.trim_start();
    let indent = &line[..line.len() - typed.len()];
    match typed.split_once(" # ").filter(|_| width.is_some_and(|width| line.chars().count() > width)) {
        Some((typed, does)) => {
            let comment = format!("{indent}# ");
            let does = hang(&comment, &comment, does.trim(), width);
            format!("{does}{}", command(indent, typed.trim_end(), width))
        }
        None => command(indent, typed, width),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::failovergroup::table::Line as Group;
    use crate::finservice::table::Line;
    use crate::sandbox::table::Row;

    const NARROW: Size = Size { width: 80, height: 24 };
    const WIDE: Size = Size { width: 120, height: 50 };
    const BELOW: &str = "  banyan failover start payments --reason 'a drill' --wait --kubeconfig .banyan/sandbox/gcp-us-central1.kubeconfig    # moves it there\n";

    fn row(namespace: &str, name: &str, cloud: &str, problem: (&str, &str)) -> Row {
        let ready = problem.0.is_empty();
        let line = Line {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ready,
            reason: if ready { "Serving" } else { "Problem" }.to_owned(),
            revision: "6f5d8c9b7x".to_owned(),
            release: format!("{name}:1.4.2"),
            replicas: "1/1".to_owned(),
            problem: problem.0.to_owned(),
            remedy: problem.1.to_owned(),
        };
        Row { cloud: cloud.to_owned(), line }
    }

    /// The platform of the example, of which so many have a problem.
    fn platform(ill: usize) -> Seen {
        let names = [
            ("accounts", "accounts"),
            ("edge", "api-gateway"),
            ("identity", "auth"),
            ("risk", "fraud"),
            ("payments", "ledger"),
            ("legacy", "monolith"),
            ("messaging", "notification"),
            ("payments", "transaction"),
            ("payments", "transaction-eu"),
        ];
        let clouds = ["aws-us-east-1", "gcp-us-central1"];
        let problem = (
            "pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull: manifest unknown",
            "Correct spec.image; for a registry that asks for credentials, name their Secret in spec.imagePullSecrets.",
        );
        let places = clouds.iter().flat_map(|cloud| names.iter().map(move |(of, name)| (*of, *name, *cloud)));
        let rows = places.enumerate().map(|(place, (of, name, cloud))| {
            row(of, name, cloud, if place < ill { problem } else { ("", "") })
        });
        let answers = clouds.iter().zip(["True", "False"]).map(|(cloud, ready)| {
            let line = Group {
                group: "payments".to_owned(),
                ready: ready.to_owned(),
                protected: "True".to_owned(),
                here: "Standby".to_owned(),
                holders: "aws-us-east-1".to_owned(),
                epoch: 16,
                why: "the standby of postgres is 12 s behind, which is more than maxLag 5s".to_owned(),
            };
            Answer { cloud: (*cloud).to_owned(), line, current: true, holds: String::new() }
        });
        Seen { rows: rows.collect(), answers: answers.collect(), groups: Vec::new() }
    }

    #[test]
    fn faults_6_15_the_problem_is_readable_on_a_small_terminal() {
        expect![[r#"
            NAMESPACE  NAME      CLOUD          READY  REASON   PODS  RELEASE
                PROBLEM
            accounts   accounts  aws-us-east-1  False  Problem  1/1   accounts:1.4.2
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
            17 are Ready, without a problem.

            GROUP     CLOUD            READY  PROTECTED  HERE     HOLDERS        EPOCH
                WHY
            payments  aws-us-east-1    True   True       Standby  aws-us-east-1  16
                the standby of postgres is 12 s behind, which is more than maxLag 5s
            payments  gcp-us-central1  False  True       Standby  aws-us-east-1  16
                the standby of postgres is 12 s behind, which is more than maxLag 5s
        "#]]
        .assert_eq(&frame(&platform(1), BELOW, NARROW));
    }

    #[test]
    fn faults_6_15_the_problem_is_readable_at_120_columns() {
        expect![[r#"
            NAMESPACE  NAME            CLOUD            READY  REASON   PODS  RELEASE               REVISION
                PROBLEM
            accounts   accounts        aws-us-east-1    False  Problem  1/1   accounts:1.4.2        6f5d8c9b7x
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull: manifest unknown → Correct spec.image; for a
                registry that asks for credentials, name their Secret in spec.imagePullSecrets.
            accounts   accounts        gcp-us-central1  True   Serving  1/1   accounts:1.4.2        6f5d8c9b7x
            edge       api-gateway     aws-us-east-1    True   Serving  1/1   api-gateway:1.4.2     6f5d8c9b7x
            edge       api-gateway     gcp-us-central1  True   Serving  1/1   api-gateway:1.4.2     6f5d8c9b7x
            identity   auth            aws-us-east-1    True   Serving  1/1   auth:1.4.2            6f5d8c9b7x
            identity   auth            gcp-us-central1  True   Serving  1/1   auth:1.4.2            6f5d8c9b7x
            legacy     monolith        aws-us-east-1    True   Serving  1/1   monolith:1.4.2        6f5d8c9b7x
            legacy     monolith        gcp-us-central1  True   Serving  1/1   monolith:1.4.2        6f5d8c9b7x
            messaging  notification    aws-us-east-1    True   Serving  1/1   notification:1.4.2    6f5d8c9b7x
            messaging  notification    gcp-us-central1  True   Serving  1/1   notification:1.4.2    6f5d8c9b7x
            payments   ledger          aws-us-east-1    True   Serving  1/1   ledger:1.4.2          6f5d8c9b7x
            payments   ledger          gcp-us-central1  True   Serving  1/1   ledger:1.4.2          6f5d8c9b7x
            payments   transaction     aws-us-east-1    True   Serving  1/1   transaction:1.4.2     6f5d8c9b7x
            payments   transaction     gcp-us-central1  True   Serving  1/1   transaction:1.4.2     6f5d8c9b7x
            payments   transaction-eu  aws-us-east-1    True   Serving  1/1   transaction-eu:1.4.2  6f5d8c9b7x
            payments   transaction-eu  gcp-us-central1  True   Serving  1/1   transaction-eu:1.4.2  6f5d8c9b7x
            risk       fraud           aws-us-east-1    True   Serving  1/1   fraud:1.4.2           6f5d8c9b7x
            risk       fraud           gcp-us-central1  True   Serving  1/1   fraud:1.4.2           6f5d8c9b7x

            GROUP      CLOUD             READY   PROTECTED   HERE      HOLDERS         EPOCH   WHY
            payments   aws-us-east-1     True    True        Standby   aws-us-east-1   16      the standby of postgres is 12 s
                                                                                               behind, which is more than maxLag 5s
            payments   gcp-us-central1   False   True        Standby   aws-us-east-1   16      the standby of postgres is 12 s
                                                                                               behind, which is more than maxLag 5s
              # moves it there
              banyan failover start payments --reason 'a drill' --wait --kubeconfig .banyan/sandbox/gcp-us-central1.kubeconfig
        "#]].assert_eq(&frame(&platform(1), BELOW, WIDE));
    }

    #[test]
    fn faults_6_15_what_does_not_fit_is_counted() {
        expect![[r#"
            NAMESPACE  NAME         CLOUD          READY  REASON   PODS  RELEASE
                PROBLEM
            accounts   accounts     aws-us-east-1  False  Problem  1/1   accounts:1.4.2
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
            edge       api-gateway  aws-us-east-1  False  Problem  1/1   api-gateway:1.4.2
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
            identity   auth         aws-us-east-1  False  Problem  1/1   auth:1.4.2
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
            risk       fraud        aws-us-east-1  False  Problem  1/1   fraud:1.4.2
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
            14 more need attention: make the window larger, or ask each cloud with
            `banyan status --all-namespaces`.
        "#]]
        .assert_eq(&frame(&platform(18), BELOW, NARROW));
    }

    #[test]
    fn faults_6_15_no_frame_is_larger_than_the_terminal() {
        for ill in 0..=18 {
            for size in [NARROW, WIDE, Size { width: 100, height: 30 }, Size { width: 200, height: 60 }] {
                let text = frame(&platform(ill), BELOW, size);
                assert!(text.lines().count() < size.height, "{ill} at {size:?}:\n{text}");
                // The path of a kubeconfig is one word.
                assert!(
                    text.lines().all(|line| line.chars().count() <= size.width),
                    "{ill} at {size:?}:\n{text}"
                );
                assert!(ill == 0 || text.contains("ErrImagePull"), "{ill} at {size:?}:\n{text}");
            }
        }
    }
}
