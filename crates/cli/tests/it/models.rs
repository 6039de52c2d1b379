//! The catalogue's tools: import, validate and check, on files and on a provider that answers on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::rushes_in;

/// A folder of its own, removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rushes-models-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// fal's document of a model with these fields.
fn document(fields: &Value, required: &[&str]) -> Value {
    let schema = |schema: Value| json!({"content": {"application/json": {"schema": schema}}});
    let input = json!({"type": "object", "properties": fields, "required": required});
    let output = json!({"type": "object", "properties": {"video": {"type": "object", "properties": {"url": {"type": "string"}}}}});
    json!({"info": {"x-fal-metadata": {"endpointId": "acme/video", "category": "image-to-video"}}, "paths": {
        "/acme/video": {"post": {"requestBody": schema(input)}},
        "/acme/video/requests/{request_id}": {"get": {"responses": {"200": schema(output)}}}}})
}

fn usual() -> Value {
    json!({
        "prompt": {"type": "string"},
        "image_url": {"type": "string"},
        "duration": {"type": "string", "enum": ["5", "10"], "default": "5"},
        "generate_audio": {"type": "boolean", "default": true},
        "cfg_scale": {"type": "number"},
        "sync_mode": {"type": "boolean"},
    })
}

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = rushes_in(folder, args, &[]);
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const PRICE: &str = "  [[model.price]]\n  per = \"second\"\n  rows = [{ when = { audio = true }, credits = \"0.2\" }, { when = { audio = false }, credits = \"0.1\" }]\n";

#[test]
fn a_document_becomes_an_entry_that_a_price_completes() {
    let folder = Folder::new("import");
    folder.write("video.json", &document(&usual(), &["prompt", "image_url"]).to_string());
    let (code, said, error) = run(&folder.0, &["models", "import", "fal", "video.json"]);
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "video: image-to-video, acme/video of fal
  settings   prompt, duration, audio = generate_audio
  media      FIRST_FRAME = image_url
  parameters cfg_scale
  hidden     sync_mode: the answer would hold the file itself
wrote ./schemas/fal/video.json
wrote the entry at the end of ./models.toml
to do: the price: write [[model.price]] rows from https://fal.ai/models/acme/video; without one the entry does not load
until then ./models.toml does not load:
  line 3: video: price must be given: a model without a price would be free
"
        ),
        "{error}"
    );
    let (code, said, _) = run(&folder.0, &["models", "validate", "models.toml"]);
    let fault = "models.toml: line 3: video: price must be given: a model without a price would be free\n";
    assert_eq!((code, said.as_str()), (1, fault));

    folder.write("models.toml", &format!("{}{PRICE}", folder.read("models.toml")));
    let (code, said, _) = run(&folder.0, &["models", "validate", "models.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("models/video                           1.00 credits  fal acme/video\n"), "{said}");
    assert!(said.ends_with("models.toml is in order\n"), "{said}");
    let (code, said, _) = run(&folder.0, &["--json", "models", "validate", "models.toml"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["faults"], &said["models"][2]), (0, &json!([]), &json!("models/video")));
}

#[test]
fn what_a_person_may_have_changed_is_not_written_over() {
    let folder = Folder::new("again");
    folder.write("video.json", &document(&usual(), &["prompt"]).to_string());
    assert_eq!(run(&folder.0, &["models", "import", "fal", "video.json", "--id", "mine"]).0, 0);
    let own = format!("{}{PRICE}# mine\n", folder.read("models.toml"));
    folder.write("models.toml", &own);
    // The same once more changes nothing.
    let (code, said, _) = run(&folder.0, &["models", "import", "fal", "video.json", "--id", "mine"]);
    assert_eq!(code, 0);
    assert!(said.contains("has an entry mine already, which stays as it is\n"), "{said}");
    assert!(said.ends_with("models.toml is in order; read the entry before it is used\n"), "{said}");

    let mut fields = usual();
    fields["duration"]["enum"] = json!(["5", "8"]);
    folder.write("video.json", &document(&fields, &["prompt"]).to_string());
    let stored = folder.read("schemas/fal/mine.json");
    let (code, _, error) = run(&folder.0, &["models", "import", "fal", "video.json", "--id", "mine"]);
    assert_eq!(code, 6);
    assert!(error.starts_with("error: ./schemas/fal/mine.json is there already\n  what to do: "), "{error}");
    assert_eq!(folder.read("schemas/fal/mine.json"), stored);
    assert_eq!(run(&folder.0, &["models", "import", "fal", "video.json", "--id", "mine", "--force"]).0, 0);
    assert_ne!(folder.read("schemas/fal/mine.json"), stored);
    assert_eq!(folder.read("models.toml"), own);
}

#[test]
fn drift_is_reported_the_breaking_first() {
    let folder = Folder::new("drift");
    folder.write("video.json", &document(&usual(), &["prompt"]).to_string());
    assert_eq!(run(&folder.0, &["models", "import", "fal", "video.json"]).0, 0);
    folder.write("models.toml", &format!("{}{PRICE}", folder.read("models.toml")));
    let check = ["models", "check", "--catalogue", "models.toml", "--model", "video", "--document", "video.json"];
    let (code, said, error) = run(&folder.0, &check);
    assert_eq!((code, said.as_str()), (0, "video                            fal        as stored\n"), "{error}");

    let mut fields = usual();
    fields["duration"]["enum"] = json!(["5", "8"]);
    fields["seed"] = json!({"type": "integer"});
    folder.write("video.json", &document(&fields, &["prompt", "image_url"]).to_string());
    let (code, said, _) = run(&folder.0, &check);
    let expected = "\
video                            fal        CHANGED: 4 in all, 2 by which orders may be refused or settings lost
  ! duration takes 10 no more
  ! image_url must be given now
    duration takes 8 now
    seed is new
";
    assert_eq!((code, said.as_str()), (6, expected));
    let (code, _, error) = run(&folder.0, &["models", "check", "--catalogue", "models.toml", "--model", "other"]);
    assert_eq!((code, error.as_str()), (3, "error: models.toml has no model other\n"));
}

/// A box of one's own answers its `/openapi.json` so often, with this token or none.
fn box_that_answers(input: &Value, times: usize, token: &'static str) -> (String, std::thread::JoinHandle<()>) {
    let schemas = json!({"components": {"schemas": {
        "Input": {"type": "object", "properties": input},
        "Output": {"type": "string", "format": "uri"}}}});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let known = token.is_empty() || request.contains(&format!("authorization: Bearer {token}\r\n"));
            let (status, body) =
                if known { ("200 OK", schemas.to_string()) } else { ("401 Unauthorized", "{}".to_owned()) };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    (address, server)
}

#[test]
fn boxes_are_reached_and_their_drift_is_found_by_their_own_documents() {
    let folder = Folder::new("boxes");
    let prompt = json!({"prompt": {"type": "string"}});
    let steps =
        |max: u32| json!({"prompt": {"type": "string"}, "steps": {"type": "integer", "minimum": 1, "maximum": max}});
    let (big, big_server) = box_that_answers(&steps(50), 1, "big-token");
    let (small, small_server) = box_that_answers(&prompt, 2, "");
    let environment = |big: &str| {
        vec![
            ("RUSHES_COG_URL_BIG_GPU", big.to_owned()),
            ("RUSHES_COG_TOKEN_BIG_GPU", "big-token".to_owned()),
            ("RUSHES_COG_URL", small.clone()),
        ]
    };
    let rushes = |environment: &[(&str, String)], args: &[&str]| {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let Output { status, stdout, stderr } = rushes_in(&folder.0, args, &environment);
        (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    };
    for model in ["big-gpu", "small"] {
        let (code, said) = rushes(&environment(&big), &["models", "import", "cog", model]);
        assert_eq!(code, 0, "{said}");
        folder.write(
            "models.toml",
            &format!(
                "{}  [[model.price]]\n  per = \"output\"\n  rows = [{{ credits = \"0.1\" }}]\n",
                folder.read("models.toml")
            ),
        );
    }
    big_server.join().unwrap();
    let (big, big_server) = box_that_answers(&steps(30), 1, "big-token");
    let (code, said) = rushes(&environment(&big), &["models", "check", "--catalogue", "models.toml"]);
    assert_eq!(code, 6, "{said}");
    let line =
        |head: &str| said.lines().find(|line| line.starts_with(head)).unwrap_or_else(|| panic!("{head}: {said}"));
    assert!(line("big-gpu").contains("CHANGED: 1 in all, 1 by which orders may be refused"), "{said}");
    assert!(said.contains("! steps"), "{said}");
    assert!(line("small").ends_with("as stored"), "{said}");
    for server in [big_server, small_server] {
        server.join().unwrap();
    }
    // A box that is gone is said to be, and is no drift.
    let (code, said) =
        rushes(&environment(&big), &["models", "check", "--catalogue", "models.toml", "--model", "big-gpu"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("NOT COMPARED: cog cannot be reached at http://127.0.0.1:"), "{said}");
}

#[test]
fn each_mistake_has_its_sentence() {
    let folder = Folder::new("mistakes");
    folder.write("broken.json", "{\"a\": }");
    folder.write("other.json", "{\"a\": 1}");
    folder.write("two.json", "{\"data\": [{\"id\": \"a/b\"}, {\"id\": \"a/c\"}]}");
    let mut lost = usual();
    lost["track"] = json!({"type": "array", "items": {"$ref": "#/components/schemas/Point"}});
    folder.write("lost.json", &document(&lost, &["track"]).to_string());
    folder.write("used.toml", "use = [\"veo-3.1-i2v\", \"veo-4\"]\n");
    for (args, code, says) in [
        (&["models", "import", "sora", "x"][..], 2, "must be fal, replicate, openrouter or cog"),
        (&["models", "import", "fal", "none.json"], 2, "error: none.json cannot be read: No such file or directory"),
        (
            &["models", "import", "fal", "broken.json"],
            2,
            "error: broken.json is not JSON: expected value at line 1 column 7",
        ),
        (
            &["models", "import", "fal", "other.json"],
            2,
            "error: other.json: this is not an OpenAPI document of fal's queue: paths is missing",
        ),
        (
            &["models", "import", "openrouter", "two.json"],
            2,
            "error: two.json: this tells of several models; say which: a/b, a/c\n  what to do: say which with --model",
        ),
        (
            &["models", "import", "openrouter", "two.json", "--model", "a/d"],
            3,
            "error: two.json: this does not tell of a/d",
        ),
        (
            &["models", "import", "replicate", "google/veo-3.1"],
            4,
            "error: Replicate tells of models only to those with a token\n  what to do: set RUSHES_REPLICATE_TOKEN",
        ),
        (
            &["models", "import", "cog", "box"],
            2,
            "error: it is not known where the box is\n  what to do: give --cog-url",
        ),
        (
            &["models", "import", "cog", "box", "--cog-url", "http://127.0.0.1:1"],
            5,
            "error: cog cannot be reached at http://127.0.0.1:1/openapi.json: ",
        ),
        (
            &["models", "import", "fal", "lost.json"],
            6,
            "error: acme/video cannot be offered as its document is\n  track must be given, and /track/* refers to Point, which the document does not have",
        ),
        (&["models", "validate", "none.toml"], 2, "error: none.toml cannot be read: No such file or directory"),
        (
            &["models", "check", "--catalogue", "used.toml"],
            2,
            "error: used.toml does not load\n  line 1: use[1] has \"veo-4\", and must be of kling-v3-pro-i2v, ",
        ),
    ] {
        let (found, out, error) = run(&folder.0, args);
        assert_eq!(found, code, "{args:?}: {error}{out}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
    assert!(!folder.0.join("models.toml").exists());
}

#[test]
fn a_box_and_a_provider_are_asked_by_their_addresses() {
    let folder = Folder::new("fetch");
    let schemas = json!({"components": {"schemas": {
        "Input": {"type": "object", "properties": {"prompt": {"type": "string"}, "image": {"type": "string", "format": "uri"}}},
        "Output": {"type": "string", "format": "uri"}}}});
    let model = json!({"owner": "acme", "name": "video", "is_official": false,
        "latest_version": {"id": "0a1b", "openapi_schema": schemas.clone()}});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let (status, body) = match path.as_str() {
                "/openapi.json" => ("200 OK", schemas.to_string()),
                "/v1/models/acme/video" => ("200 OK", model.to_string()),
                _ => ("404 Not Found", "{}".to_owned()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            let authorization = request.lines().find(|line| line.starts_with("authorization: ")).unwrap_or_default();
            asked.push(format!("{path} {authorization}"));
        }
        asked
    });
    let (code, said, error) = run(&folder.0, &["models", "import", "cog", "big-gpu", "--cog-url", &address]);
    assert_eq!(code, 0, "{error}");
    assert!(said.starts_with("big-gpu: image-to-video, big-gpu of cog\n"), "{said}");
    let base = format!("{address}/v1");
    let environment = [("RUSHES_REPLICATE_TOKEN", "r8_secret"), ("RUSHES_REPLICATE_URL", base.as_str())];
    let ordered = rushes_in(&folder.0, &["models", "import", "replicate", "acme/video"], &environment);
    let said = String::from_utf8(ordered.stdout).unwrap();
    assert!(said.starts_with("video: image-to-video, acme/video:0a1b of replicate\n"), "{said}");
    let unknown = rushes_in(&folder.0, &["models", "import", "replicate", "acme/none"], &environment);
    assert_eq!(unknown.status.code(), Some(3));
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        error.starts_with("error: replicate knows no model acme/none\n") && !error.contains("r8_secret"),
        "{error}"
    );
    assert_eq!(
        server.join().unwrap(),
        [
            "/openapi.json ",
            "/v1/models/acme/video authorization: Bearer r8_secret",
            "/v1/models/acme/none authorization: Bearer r8_secret"
        ]
    );
    let entries = folder.read("models.toml");
    assert_eq!(entries.matches("[[model]]").count(), 2, "{entries}");
    assert!(entries.contains("model = \"acme/video:0a1b\""), "{entries}");
}

/// The commands of a page with what they print: of each block of the language `console`, in order.
fn sessions(page: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ rushes "), found.last_mut()) {
                (Some(command), _) => found.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => printed.push_str(&format!("{line}\n")),
                (None, None) => panic!("{line}: a session begins with a command"),
            }
        }
    }
    found
}

#[test]
fn the_page_shows_what_is_printed() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md")).unwrap();
    let folder = Folder::new("page");
    // The catalogue of the page, and the documents that its commands name.
    let first = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    folder.write("models.toml", first);
    folder.write("video.json", &document(&usual(), &["prompt", "image_url"]).to_string());
    let mut changed = usual();
    changed["duration"]["enum"] = json!(["5", "8"]);
    folder.write("changed.json", &document(&changed, &["prompt", "image_url"]).to_string());
    let stored = ["models", "import", "fal", "video.json", "--id", "acme-video", "--out", "stored"];
    assert_eq!(run(&folder.0, &stored).0, 0);
    let priced = page.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let entry = format!("{}{priced}", folder.read("stored/models.toml")).replace("\"schemas/", "\"stored/schemas/");
    folder.write("drift.toml", &entry);
    let sessions = sessions(&page);
    assert_eq!(sessions.len(), 3);
    for (command, printed) in sessions {
        let args: Vec<_> = command.split(' ').collect();
        let (_, said, error) = run(&folder.0, &args);
        assert_eq!(said, printed, "{command}: {error}");
    }
}
