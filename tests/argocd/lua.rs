//! Lua as ArgoCD runs it for what lies in `argocd-cm` (`util/lua/lua.go` there, without `useOpenLibs`): the base functions
//! and `table`. No `string`, so that texts have no methods either; no `math`, no `io`; `os` only by `require`.

use std::path::PathBuf;

use mlua::{Lua, LuaOptions, StdLib};
use serde_json::{Map, Value};

/// What is left of the base functions: those that both gopher-lua and Lua 5.1 have, and that read no file.
const GLOBALS: [&str; 20] = [
    "_G",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "print",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setmetatable",
    "table",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
];

/// The folder of the scripts.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/banyan/files/argocd")
}

/// A script of that folder, behind what all of its name begin with, as the chart renders it.
pub fn script(path: &str) -> String {
    let path = folder().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shared = folder().with_file_name("argocd-shared").join(path.file_name().expect("a name"));
    std::fs::read_to_string(shared).unwrap_or_default() + &text
}

/// What a script returns for an object.
///
/// # Errors
/// What Lua says.
pub fn run(script: &str, object: &Value) -> mlua::Result<Value> {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default())?;
    let globals = lua.globals();
    for pair in globals.clone().pairs::<String, mlua::Value>() {
        let (name, _) = pair?;
        if !GLOBALS.contains(&name.as_str()) {
            globals.set(name, mlua::Value::Nil)?;
        }
    }
    globals.set("obj", decode(&lua, object)?)?;
    let returned: mlua::Value = lua.load(script).eval()?;
    for pair in globals.pairs::<String, mlua::Value>() {
        let (name, _) = pair?;
        assert!(name == "obj" || GLOBALS.contains(&&*name), "the script leaves a global {name} behind");
    }
    encode(&returned)
}

/// As `decodeValue` of ArgoCD: what is null is not there.
fn decode(lua: &Lua, value: &Value) -> mlua::Result<mlua::Value> {
    Ok(match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(yes) => mlua::Value::Boolean(*yes),
        Value::Number(number) => mlua::Value::Number(number.as_f64().expect("a number of JSON")),
        Value::String(text) => mlua::Value::String(lua.create_string(text)?),
        Value::Array(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.push(decode(lua, item)?)?;
            }
            mlua::Value::Table(table)
        }
        Value::Object(fields) => {
            let table = lua.create_table()?;
            for (name, field) in fields {
                table.set(name.as_str(), decode(lua, field)?)?;
            }
            mlua::Value::Table(table)
        }
    })
}

/// As gopher-json: a table without entries is a list, whatever was meant.
fn encode(value: &mlua::Value) -> mlua::Result<Value> {
    Ok(match value {
        mlua::Value::Nil => Value::Null,
        mlua::Value::Boolean(yes) => Value::Bool(*yes),
        mlua::Value::Integer(number) => Value::from(*number),
        mlua::Value::Number(number) if number.fract() == 0.0 => Value::from(*number as i64),
        mlua::Value::Number(number) => Value::from(*number),
        mlua::Value::String(text) => Value::String(text.to_str()?.to_owned()),
        mlua::Value::Table(table) if table.raw_len() > 0 || table.is_empty() => {
            let items = table.sequence_values::<mlua::Value>();
            Value::Array(items.map(|item| encode(&item?)).collect::<mlua::Result<_>>()?)
        }
        mlua::Value::Table(table) => {
            let mut fields = Map::new();
            for pair in table.pairs::<String, mlua::Value>() {
                let (name, field) = pair?;
                fields.insert(name, encode(&field)?);
            }
            Value::Object(fields)
        }
        other => panic!("{} is nothing that JSON has", other.type_name()),
    })
}

#[test]
fn faults_6_17_what_argocd_does_not_open_is_not_there() {
    for script in
        ["return string.rep('a', 2)", "return ('a'):rep(2)", "return math.floor(1)", "return os.time()"]
    {
        assert!(run(script, &Value::Null).is_err(), "{script}");
    }
    assert_eq!(
        run(
            "return {a = #obj.list, b = table.concat(obj.list, '-')}",
            &serde_json::json!({"list": ["x", "y"]})
        )
        .unwrap(),
        serde_json::json!({"a": 2, "b": "x-y"})
    );
}
