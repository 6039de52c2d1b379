//! The descriptors of the services that a server answers: which methods they have, and what reflection gives out of them.
//!
//! Invariant: a file is given out in the very bytes that it was compiled to, custom options included, which decoding drops.

use bytes::Bytes;
use prost::{DecodeError, Message};
use prost_types::FileDescriptorProto;

/// The files of a `FileDescriptorSet`.
#[derive(Debug)]
pub(super) struct Descriptors(Vec<File>);

#[derive(Debug)]
struct File {
    encoded: Bytes,
    decoded: FileDescriptorProto,
}

/// A `FileDescriptorSet` of which each file stays encoded.
#[derive(Clone, PartialEq, Message)]
struct EncodedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

impl Descriptors {
    /// Reads an encoded `FileDescriptorSet`.
    pub(super) fn read(encoded: &'static [u8]) -> Result<Self, DecodeError> {
        let files = EncodedSet::decode(Bytes::from_static(encoded))?.file.into_iter();
        let files = files.map(|encoded| Ok(File { decoded: FileDescriptorProto::decode(encoded.clone())?, encoded }));
        files.collect::<Result<_, _>>().map(Self)
    }

    /// Every method, as `package.Service` and its own name.
    pub(super) fn methods(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().flat_map(|file| {
            file.decoded.service.iter().flat_map(|service| {
                let name = format!("{}.{}", file.decoded.package(), service.name());
                service.method.iter().map(move |method| (name.clone(), method.name()))
            })
        })
    }

    /// Leaves the files that describe `services`, and those that they need.
    pub(super) fn retain(&mut self, services: &[&str]) {
        let describes = |file: &&File| {
            let package = file.decoded.package();
            let mut names = file.decoded.service.iter().map(|service| format!("{package}.{}", service.name()));
            names.any(|name| services.contains(&name.as_str()))
        };
        let mut needed: Vec<_> = self.0.iter().filter(describes).map(|file| file.decoded.name().to_owned()).collect();
        let mut at = 0;
        while at < needed.len() {
            let file = self.0.iter().find(|file| file.decoded.name() == needed[at]);
            for name in file.map(|file| file.decoded.dependency.as_slice()).unwrap_or_default() {
                if !needed.contains(name) {
                    needed.push(name.clone());
                }
            }
            at += 1;
        }
        self.0.retain(|file| needed.iter().any(|name| name == file.decoded.name()));
    }

    /// The encoded `FileDescriptorSet`.
    pub(super) fn encode(&self) -> Vec<u8> {
        EncodedSet { file: self.0.iter().map(|file| file.encoded.clone()).collect() }.encode_to_vec()
    }
}
