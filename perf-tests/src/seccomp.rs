//! Seccomp profiles as container runtimes take them (the JSON of OCI's runtime specification), applied to a thread and to what it starts.
//!
//! A profile says what a call that it does not name meets, which is an error here, and of others whether they are allowed, with which arguments,
//! or meet an error of their own. Filters of the kernel have one answer for what they match, so there is one filter for what is allowed, and
//! one for each other error. They are installed in this order: of two errors the one that was installed last counts.
//!
//! Names that this architecture has no call for are left out, as libseccomp does. What a profile may say and runtimes' own do not is refused.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use serde::Deserialize;
use syscalls::Sysno;

/// EPERM, which OCI has for an error without a number.
const EPERM: u32 = 1;

/// A profile, translated for the kernel.
#[derive(Clone, Debug)]
pub struct Filters(Vec<BpfProgram>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    syscalls: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Reads a profile's JSON.
    pub fn of_profile(json: &str) -> Result<Self> {
        let profile: Profile = serde_json::from_str(json).context("no seccomp profile")?;
        ensure!(profile.default_action == "SCMP_ACT_ERRNO", "the default action is {}", profile.default_action);
        let default = profile.default_errno_ret.unwrap_or(EPERM);
        let mut allowed = Rules::new();
        let mut refused = BTreeMap::<u32, Rules>::new();
        for call in &profile.syscalls {
            let rules = match call.action.as_str() {
                "SCMP_ACT_ALLOW" => &mut allowed,
                "SCMP_ACT_ERRNO" => refused.entry(call.errno_ret.unwrap_or(EPERM)).or_default(),
                other => bail!("{:?}: the action is {other}", call.names),
            };
            add(rules, call)?;
        }
        let mut filters = vec![filter(allowed, SeccompAction::Errno(default), SeccompAction::Allow)?];
        for (errno, rules) in refused {
            filters.push(filter(rules, SeccompAction::Allow, SeccompAction::Errno(errno))?);
        }
        Ok(Self(filters))
    }

    /// From now on this thread, and what it starts, is held to it. There is no way back.
    pub fn apply(&self) -> Result<()> {
        self.0.iter().try_for_each(|program| apply_filter(program)).context("the kernel does not take the filter")
    }
}

/// A call that is named without arguments matches always, whatever else is said of it.
fn add(rules: &mut Rules, call: &Call) -> Result<()> {
    let numbers = call.names.iter().filter_map(|name| name.parse::<Sysno>().ok()).map(|call| i64::from(call.id()));
    for number in numbers {
        let known = rules.get(&number).is_some_and(Vec::is_empty);
        if call.args.is_empty() {
            rules.insert(number, Vec::new());
        } else if !known {
            let conditions = call.args.iter().map(condition).collect::<Result<Vec<_>>>()?;
            rules.entry(number).or_default().push(SeccompRule::new(conditions)?);
        }
    }
    Ok(())
}

fn condition(argument: &Argument) -> Result<SeccompCondition> {
    let Argument { index, value, value_two, op } = argument;
    let (op, value) = match op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, *value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, *value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, *value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, *value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, *value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, *value),
        // The first is the mask, the second what is left.
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(*value), *value_two),
        other => bail!("the operator is {other}"),
    };
    Ok(SeccompCondition::new(*index, SeccompCmpArgLen::Qword, op, value)?)
}

fn filter(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use serde_json::{Value, json};

    use super::*;

    const SHIPPED: &str = include_str!("../../tuning/seccomp/kthena-dataplane.amd64.json");

    /// What comes of a job under the profile that we ship, but that `edit` changes it first.
    fn under<T: Send + 'static>(edit: fn(&mut Value), job: impl FnOnce() -> T + Send + 'static) -> T {
        let mut profile: Value = serde_json::from_str(SHIPPED).unwrap();
        edit(&mut profile);
        let filters = Filters::of_profile(&profile.to_string()).unwrap();
        let job = move || {
            filters.apply().unwrap();
            job()
        };
        thread::spawn(job).join().unwrap()
    }

    fn without(profile: &mut Value, names: &[&str]) {
        for call in profile["syscalls"].as_array_mut().unwrap() {
            call["names"].as_array_mut().unwrap().retain(|name| !names.contains(&name.as_str().unwrap()));
        }
    }

    /// The error of making and of removing a folder.
    fn folder() -> (Option<i32>, Option<i32>) {
        let folder =
            std::env::temp_dir().join(format!("kthena-seccomp-{}-{:?}", std::process::id(), thread::current().id()));
        let code = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        (code(fs::create_dir(&folder)), code(fs::remove_dir(&folder)))
    }

    #[test]
    fn what_a_profile_does_not_name_meets_an_error_and_what_it_names_does_not() {
        assert_eq!(under(|_| {}, folder), (None, None));
        let (made, _) = under(|profile| without(profile, &["mkdir", "mkdirat"]), folder);
        assert_eq!(made, Some(1), "EPERM");
    }

    #[test]
    fn an_error_of_its_own_counts_over_the_default() {
        let edit = |profile: &mut Value| {
            without(profile, &["mkdir", "mkdirat"]);
            let own = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
            profile["syscalls"].as_array_mut().unwrap().push(own);
        };
        assert_eq!(under(edit, folder).0, Some(38), "ENOSYS");
    }

    #[test]
    fn arguments_are_looked_at() {
        // Sockets of TCP are of family 2, and unix sockets of family 1.
        let edit = |profile: &mut Value| {
            without(profile, &["socket"]);
            let only = json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]});
            profile["syscalls"].as_array_mut().unwrap().push(only);
        };
        let sockets = || {
            let unix = std::os::unix::net::UnixDatagram::unbound().err().and_then(|error| error.raw_os_error());
            (std::net::UdpSocket::bind("127.0.0.1:0").is_ok(), unix)
        };
        assert_eq!(under(edit, sockets), (true, Some(1)));
        assert_eq!(under(|_| {}, sockets), (true, None));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |profile: Value| format!("{:#}", Filters::of_profile(&profile.to_string()).unwrap_err());
        assert!(refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})).contains("SCMP_ACT_ALLOW"));
        let call = json!([{"names": ["read"], "action": "SCMP_ACT_TRACE"}]);
        assert!(refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": call})).contains("SCMP_ACT_TRACE"));
    }
}
