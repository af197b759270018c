//! `docs/api.md` is made of the protocol and of examples that are tested. `WEFT_DOCS_WRITE=1` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, field_descriptor_proto::Type,
};
use weft_control_api::DESCRIPTORS;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
const EXAMPLES: &str = concat!(
    include_str!("examples.rs"),
    include_str!("examples/people.rs"),
    include_str!("examples/hosts.rs"),
    include_str!("examples/running.rs"),
);
const WRITE: &str = "WEFT_DOCS_WRITE";
const PACKAGE: &str = "weft.control.v1";

/// Numbers of fields in descriptor.proto.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
/// Of fields in messages, values in enumerations, calls in services.
const MEMBER: i32 = 2;
const SYNTAX: i32 = 12;

/// What is said of everything in a file, by its path.
struct Words<'a>(BTreeMap<&'a [i32], &'a str>);

impl<'a> Words<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.as_ref().map_or(&[][..], |info| &info.location);
        Self(locations.iter().map(|at| (at.path.as_slice(), at.leading_comments())).collect())
    }

    /// As paragraphs.
    fn text(&self, path: &[i32]) -> String {
        let text = self.0.get(path).copied().unwrap_or_default();
        let lines: Vec<_> =
            text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        lines.join("\n").trim().to_owned()
    }

    /// In one line.
    fn line(&self, path: &[i32]) -> String {
        self.text(path).split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
    }
}

/// A type as it is written in the protocol, and a link to it where it is one of ours.
fn kind(field: &FieldDescriptorProto) -> String {
    let many = if field.label() == prost_types::field_descriptor_proto::Label::Repeated {
        "repeated "
    } else {
        ""
    };
    let one = match field.r#type() {
        Type::Message | Type::Enum => {
            let name = field.type_name().rsplit('.').next().unwrap_or_default();
            match field.type_name().contains(PACKAGE) && !name.ends_with("Entry") {
                true => format!("[{name}](#{})", name.to_lowercase()),
                false if name.ends_with("Entry") => return "map of string to string".to_owned(),
                false => name.to_owned(),
            }
        }
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Uint32 => "uint32".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    format!("{many}{one}")
}

fn message(page: &mut String, words: &Words<'_>, at: i32, message: &DescriptorProto) {
    let said = words.text(&[MESSAGE, at]);
    write!(page, "\n#### {}\n\n{said}\n", message.name()).unwrap();
    if message.field.is_empty() {
        return;
    }
    page.push_str("\n| Field | Type | |\n|---|---|---|\n");
    for (n, field) in (0..).zip(&message.field) {
        let said = words.line(&[MESSAGE, at, MEMBER, n]);
        let one_of = field.oneof_index.filter(|_| !field.proto3_optional());
        let one_of = one_of.and_then(|n| message.oneof_decl.get(usize::try_from(n).unwrap()));
        let one_of = one_of.map(|one| format!(" (one of `{}`)", one.name())).unwrap_or_default();
        writeln!(page, "| `{}` | {}{one_of} | {said} |", field.name(), kind(field)).unwrap();
    }
}

fn enumeration(page: &mut String, words: &Words<'_>, at: i32, words_of: &EnumDescriptorProto) {
    let said = words.text(&[ENUM, at]);
    write!(page, "\n#### {}\n\n{said}\n\n| Value | |\n|---|---|\n", words_of.name()).unwrap();
    for (n, value) in (0..).zip(&words_of.value) {
        let said = words.line(&[ENUM, at, MEMBER, n]);
        writeln!(page, "| `{}` | {said} |", value.name()).unwrap();
    }
}

/// The examples with their titles.
fn examples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in EXAMPLES.split("// example: ").skip(1) {
        let (title, rest) = part.split_once('\n').unwrap();
        let (code, _) = rest.split_once("// end").unwrap();
        let code: Vec<_> =
            code.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        found.push((title.to_owned(), code.join("\n").trim_end().to_owned()));
    }
    found
}

fn page() -> String {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let ours = || files.file.iter().filter(|file| file.package() == PACKAGE);
    let mut page = String::from("# The control API\n\n");
    page.push_str(
        "This page is made of the protocol, `control/api/proto/weft/control/v1`. Reflection and health checks are \
         served, too.\nWho may call what is in [control.md](control.md).\n",
    );
    for file in ours().filter(|file| file.name().ends_with("/common.proto")) {
        let words = Words::of(file);
        write!(page, "\n```text\n{}\n```\n", words.text(&[SYNTAX])).unwrap();
    }
    page.push_str(
        "\n## Examples\n\nIn the crate that is generated from the protocol, `weft-control-api`. `with` puts a token into the \
         header, as the first one\ndoes; `name` makes an `EnvironmentName`.\n",
    );
    for (title, code) in examples() {
        write!(page, "\n### {title}\n\n```rust\n{code}\n```\n").unwrap();
    }
    for file in ours() {
        let words = Words::of(file);
        let name = file.name().rsplit('/').next().unwrap_or_default();
        write!(page, "\n## {name}\n").unwrap();
        for (n, service) in (0..).zip(&file.service) {
            let said = words.text(&[SERVICE, n]);
            write!(page, "\n### Service {}\n\n{said}\n", service.name()).unwrap();
            page.push_str("\n| Call | Asks with | Answers | |\n|---|---|---|---|\n");
            for (k, call) in (0..).zip(&service.method) {
                let link = |name: &str| {
                    let name = name.rsplit('.').next().unwrap_or_default();
                    format!("[{name}](#{})", name.to_lowercase())
                };
                let (asked, answer) = (link(call.input_type()), link(call.output_type()));
                let stream = if call.server_streaming() { "stream of " } else { "" };
                let said = words.line(&[SERVICE, n, MEMBER, k]);
                let name = call.name();
                writeln!(page, "| `{name}` | {asked} | {stream}{answer} | {said} |").unwrap();
            }
        }
        for (n, words_of) in (0..).zip(&file.enum_type) {
            enumeration(&mut page, &words, n, words_of);
        }
        for (n, described) in (0..).zip(&file.message_type) {
            message(&mut page, &words, n, described);
        }
    }
    page
}

#[test]
fn every_service_has_an_example() {
    let shown: String = examples().into_iter().map(|(_, code)| code).collect();
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let ours = files.file.iter().filter(|file| file.package() == PACKAGE);
    let services = ours.flat_map(|file| &file.service).map(|service| service.name());
    let silent: Vec<_> =
        services.filter(|service| !shown.contains(&format!("{service}Client::new("))).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_page_is_what_the_protocol_says() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let found = fs::read_to_string(Path::new(PAGE)).unwrap_or_default();
    assert!(found == page, "docs/api.md is not up to date: run this test with {WRITE}=1");
}
