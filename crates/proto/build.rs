//! Compiles `/proto` without `protoc`, and turns the method options into the gateway's routing table, so that a route is
//! declared once, beside the method it is for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ServiceDescriptor, Value};
use tonic_prost_build::FileDescriptorSet;

const ROOT: &str = "../../proto";
/// What `Policy.max_message_bytes` and `Policy.max_timeout_ms` mean when they are 0.
const DEFAULT_MESSAGE_BYTES: u32 = 65_536;
const DEFAULT_TIMEOUT_MS: u32 = 10_000;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(Path::new(ROOT), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    // The bytes keep what prost's own types would drop: our options.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &encoded)?;
    fs::write(out.join("methods.rs"), methods(&DescriptorPool::decode(encoded.as_slice())?)?)?;

    let set: FileDescriptorSet = compiler.file_descriptor_set();
    tonic_prost_build::configure().bytes(".rushes.assets.v1.UploadAssetRequest.chunk").compile_fds(set)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// The source of `pub static METHODS: &[Method]`, sorted by path.
fn methods(pool: &DescriptorPool) -> Result<String, Box<dyn error::Error>> {
    let mut rows = Vec::new();
    for service in pool.services() {
        if !service.full_name().starts_with("rushes.") {
            continue;
        }
        let upstream = upstream(&service)?;
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            rows.push((path.clone(), row(&path, &upstream, &method)?));
        }
    }
    rows.sort();
    let mut source =
        String::from("/// Every method of every service, sorted by path.\npub static METHODS: &[Method] = &[\n");
    for (_, row) in rows {
        source.push_str(&row);
    }
    source.push_str("];\n");
    Ok(source)
}

fn upstream(service: &ServiceDescriptor) -> Result<String, Box<dyn error::Error>> {
    let extension = extension(service.parent_pool(), "rushes.options.v1.upstream")?;
    match service.options().get_extension(&extension).as_str() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(format!("{} has no option (rushes.options.v1.upstream)", service.full_name()).into()),
    }
}

fn row(path: &str, upstream: &str, method: &MethodDescriptor) -> Result<String, Box<dyn error::Error>> {
    let extension = extension(method.parent_pool(), "rushes.options.v1.policy")?;
    let options: DynamicMessage = method.options();
    let policy = options.get_extension(&extension);
    let policy = policy.as_message().ok_or("policy is a message")?;
    let scope = match number(policy, "scope") {
        0 => "None",
        1 => "Some(Scope::Read)",
        2 => "Some(Scope::Write)",
        3 => "Some(Scope::Generate)",
        4 => "Some(Scope::Operate)",
        other => return Err(format!("{path}: scope {other} is not known here").into()),
    };
    let callers = texts(policy, "callers");
    if (scope == "None") == callers.is_empty() {
        return Err(format!("{path}: its policy should name either a scope or callers").into());
    }
    let class = match number(policy, "class") {
        0 => "People",
        1 => "Polls",
        2 => "Background",
        other => return Err(format!("{path}: class {other} is not known here").into()),
    };
    let or = |value: u64, default: u32| {
        if value == 0 { u64::from(default) } else { value }
    };
    let message = or(number(policy, "max_message_bytes"), DEFAULT_MESSAGE_BYTES);
    let stream = match number(policy, "max_stream_bytes") {
        0 => message,
        bytes => bytes,
    };
    let timeout = match or(number(policy, "max_timeout_ms"), DEFAULT_TIMEOUT_MS) {
        ms if ms == u64::from(u32::MAX) => "None".to_owned(),
        ms => format!("Some(std::time::Duration::from_millis({ms}))"),
    };
    let mut row = String::new();
    writeln!(
        row,
        "    Method {{ path: {path:?}, upstream: {upstream:?}, scope: {scope}, callers: &{callers:?}, max_message_bytes: {message}, \
         max_stream_bytes: {stream}, max_timeout: {timeout}, class: Class::{class}, client_streaming: {}, server_streaming: {} }},",
        method.is_client_streaming(),
        method.is_server_streaming(),
    )?;
    Ok(row)
}

fn extension(pool: &DescriptorPool, name: &str) -> Result<prost_reflect::ExtensionDescriptor, Box<dyn error::Error>> {
    pool.get_extension_by_name(name).ok_or_else(|| format!("{name} is not declared in {ROOT}").into())
}

fn number(message: &DynamicMessage, field: &str) -> u64 {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::U32(n)) => u64::from(*n),
        Some(Value::U64(n)) => *n,
        Some(Value::EnumNumber(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}

fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    let value = message.get_field_by_name(field);
    let items = value.as_deref().and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
