//! The corridor called in-process: one identity, judged like anybody's; objects instead of JSON streams.

use crate::audit::{Origin, Record};
use crate::cache::Item;
use crate::cache::selector::Selector;
use crate::present::Answer;
use crate::present::watch::object_of;
use crate::registry::kinds::Resource as Row;
use crate::request::chain::{Authorized, Caller};
use crate::request::info::{RequestInfo, Verb};
use crate::request::query::Query;
use crate::server::ApiServer;
use crate::usage;
use crate::verbs::list_options::{At, WatchOptions};
use crate::verbs::{Payload, get, list, watch};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::codec;
use kybern_api::error::Status;
use kybern_api::object::{EventType, Object};
use kybern_client::transport::{List, Resource, Selection, Target, Transport, WatchEvent, Write};
use std::collections::VecDeque;

/// Carries one component's requests into the corridor of its own process.
#[derive(Debug, Clone)]
pub struct LocalTransport {
    server: ApiServer,
    user: UserInfo,
    agent: String,
}

impl ApiServer {
    /// A transport for a component of this process; `agent` names it as the manager of what it writes.
    pub fn transport(&self, user: UserInfo, agent: &str) -> LocalTransport {
        LocalTransport { server: self.clone(), user, agent: agent.to_owned() }
    }
}

impl LocalTransport {
    async fn enter(&self, info: RequestInfo, term: u64) -> Result<(Authorized, Row), Status> {
        let caller = Caller { user: self.user.clone(), agent: self.agent.clone(), term };
        let auth = self.server.0.authorize(info, caller).await?;
        let row = self.server.0.resolve(&auth)?;
        Ok((auth, row))
    }

    /// Carries out a request and writes down how it ended. A watch's record lives as long as the watch.
    async fn recorded<T>(
        &self,
        info: &RequestInfo,
        body: Option<&Bytes>,
        done: u16,
        work: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<(T, Option<Record>), Status> {
        let origin = Origin { agent: self.agent.clone(), ..Origin::default() };
        let mut record = self.server.0.auditor.open(origin, &info.attributes, &self.user);
        if let (Some(record), Some(body)) = (record.as_mut().filter(|r| r.wants_request()), body) {
            record.request(body.clone());
        }
        let result = work.await;
        if let Some(record) = &mut record {
            match &result {
                Ok(_) => record.answered(done),
                Err(status) => record.failed(status),
            }
        }
        result.map(|r| (r, record))
    }

    fn selection(verb: Verb, resource: &Resource, s: &Selection) -> RequestInfo {
        let mut info = info(verb, resource, &s.namespace, "");
        info.attributes.label_selector = s.labels.clone();
        info.attributes.field_selector = s.fields.clone();
        if let Some(name) = crate::request::info::single_name(&s.fields) {
            info.attributes.name = name.to_owned();
        }
        info
    }
}

fn info(verb: Verb, resource: &Resource, namespace: &str, name: &str) -> RequestInfo {
    let attributes = Attributes {
        verb: verb.as_str().to_owned(),
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.plural.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    RequestInfo { verb, attributes, query: Query::default(), tail: String::new() }
}

#[async_trait::async_trait]
impl Transport for LocalTransport {
    async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        let info = info(Verb::Get, resource, namespace, name);
        let work = async {
            let (auth, row) = self.enter(info.clone(), 0).await?;
            if usage::is_usage(&row) {
                return usage::get(&self.server.0, &row, &auth).await;
            }
            self.server.0.read_barrier().await?;
            get::current(&self.server.0, &row, auth.namespace(), auth.name())
        };
        Ok(self.recorded(&info, None, 200, work).await?.0)
    }

    async fn list(&self, resource: &Resource, selection: &Selection) -> Result<List, Status> {
        let info = Self::selection(Verb::List, resource, selection);
        let work = async {
            let (auth, row) = self.enter(info.clone(), 0).await?;
            if usage::is_usage(&row) {
                let listed = usage::list(&self.server.0, &row, &auth).await?;
                return Ok(List { revision: listed.revision, items: listed.items });
            }
            let selector = Selector::parse(row.def(), &selection.labels, &selection.fields)?;
            let snapshot = list::snapshot(&self.server.0, &row, At::Latest, None).await?;
            let prefix = row.kind.cache.keys().namespace(Some(auth.namespace()));
            let selected = snapshot.range(&prefix, None).filter(|(_, o)| selector.matches(&o.head));
            Ok(List { revision: snapshot.revision, items: selected.map(|(_, o)| o.clone()).collect() })
        };
        Ok(self.recorded(&info, None, 200, work).await?.0)
    }

    async fn watch(
        &self,
        resource: &Resource,
        selection: &Selection,
        revision: u64,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let info = Self::selection(Verb::Watch, resource, selection);
        let work = async {
            let (auth, row) = self.enter(info.clone(), 0).await?;
            let options = WatchOptions {
                at: At::Exact(revision),
                initial: false,
                mark_initial: false,
                bookmarks: true,
                timeout: None,
                prompt: true,
            };
            watch::open(&self.server.0, &row, &auth, &options).await
        };
        let (watcher, mut record) = self.recorded(&info, None, 200, work).await?;
        if let Some(record) = &mut record {
            record.started(200);
        }
        Ok(events(watcher, record))
    }

    async fn write(&self, target: &Target, write: Write) -> Result<Bytes, Status> {
        let (verb, media, bytes) = match write {
            Write::Create(b) => (Verb::Create, "application/json", b),
            Write::Update(b) => (Verb::Update, "application/json", b),
            Write::Patch(media, b) => (Verb::Patch, media, b),
            Write::Delete(b) => (Verb::Delete, "application/json", b),
        };
        let mut info = info(verb, &target.resource, &target.namespace, &target.name);
        info.attributes.subresource = target.subresource.clone();
        info.query = Query::from_pairs(target.query.clone());
        let payload = Payload { media: media.to_owned(), bytes: bytes.clone() };
        let work = async {
            let (auth, row) = self.enter(info.clone(), target.term).await?;
            let answer = self.server.0.run(&row, auth, payload).await?;
            json_of(answer, &row)
        };
        let done = if verb == Verb::Create { 201 } else { 200 };
        let (answer, record) = self.recorded(&info, Some(&bytes), done, work).await?;
        if let Some(mut record) = record.filter(Record::wants_response) {
            record.response(answer.clone());
        }
        Ok(answer)
    }
}

fn json_of(answer: Answer, row: &Row) -> Result<Bytes, Status> {
    match answer {
        Answer::Object(object, _) => codec::render(row.def(), row.served(), &object),
        Answer::Tree(tree, _) => Ok(tree.to_string().into()),
        Answer::List(_) | Answer::Watch(_) => Err(Status::internal("a write was answered with a collection")),
    }
}

struct Events {
    watcher: crate::cache::Watcher,
    ready: VecDeque<Item>,
    over: bool,
    _record: Option<Record>,
}

/// The items of a watch, one by one.
fn events(watcher: crate::cache::Watcher, record: Option<Record>) -> BoxStream<'static, Result<WatchEvent, Status>> {
    let state = Events { watcher, ready: VecDeque::new(), over: false, _record: record };
    futures::stream::unfold(state, |mut s| async move {
        loop {
            if let Some(event) = s.ready.pop_front().and_then(event) {
                return Some((Ok(event), s));
            }
            if s.over {
                return None;
            }
            if !s.ready.is_empty() {
                continue;
            }
            let mut items = Vec::new();
            match s.watcher.next(&mut items).await {
                Ok(true) => s.ready.extend(items),
                Ok(false) => return None,
                Err(status) => {
                    s.over = true;
                    return Some((Err(status), s));
                }
            }
        }
    })
    .boxed()
}

fn event(item: Item) -> Option<WatchEvent> {
    match item {
        Item::Initial(object) => Some(WatchEvent::Object(EventType::Added, object)),
        Item::Change(kind, change) => Some(WatchEvent::Object(kind, object_of(kind, &change)?)),
        Item::Bookmark(revision, _) => Some(WatchEvent::Bookmark(revision)),
    }
}
