use super::*;

struct Echo {
    generation: u32,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Generation;

#[derive(Message)]
#[rtype(result = "()")]
struct Break(&'static str);

#[derive(Message)]
#[rtype(result = "()")]
struct Finish;

impl Handler<Generation> for Echo {
    type Result = u32;
    fn handle(&mut self, _: Generation, _: &mut Self::Context) -> u32 {
        self.generation
    }
}

impl Handler<Break> for Echo {
    type Result = ();
    fn handle(&mut self, message: Break, _: &mut Self::Context) {
        panic!("{}", message.0);
    }
}

impl Handler<Finish> for Echo {
    type Result = ();
    fn handle(&mut self, _: Finish, context: &mut Self::Context) {
        actix::ActorContext::stop(context);
    }
}

async fn wait_for_generation(link: &Link<Echo>, wanted: u32) {
    for _ in 0..200 {
        if link.ask(Generation).await == Ok(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("generation {wanted} never came");
}

const PATIENT: Intensity = Intensity { restarts: 3, within: Duration::from_secs(60) };

#[actix::test]
async fn a_panic_closes_the_call_restarts_the_actor_and_spares_its_siblings() {
    install_panic_hook();
    let book = RestartBook::default();
    let (first, second) = (Link::<Echo>::default(), Link::<Echo>::default());
    let unexpected = |gave_up: GaveUp| panic!("{gave_up}");
    supervise("first", &first, &book, PATIENT, unexpected, |generation| Echo { generation });
    supervise("second", &second, &book, PATIENT, unexpected, |generation| Echo { generation });
    assert_eq!(first.ask(Generation).await, Ok(0));

    assert_eq!(first.ask(Break("a wire crossed")).await, Err(Unavailable::Closed));

    wait_for_generation(&first, 1).await;
    assert_eq!(second.ask(Generation).await, Ok(0), "the sibling was not touched");
    let panics = book.read();
    assert_eq!(panics["first"].count, 1);
    assert!(panics["first"].last.starts_with("a wire crossed (actors/src/supervise_tests.rs:"), "{panics:?}");
    assert!(!panics.contains_key("second"));
}

#[actix::test]
async fn too_many_panics_escalate_once_and_leave_the_link_empty() {
    let book = RestartBook::default();
    let link = Link::<Echo>::default();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let supervisor = supervise(
        "restless",
        &link,
        &book,
        PATIENT,
        move |gave_up| told.send(gave_up).unwrap(),
        |generation| Echo { generation },
    );
    for generation in 0..4 {
        wait_for_generation(&link, generation).await;
        assert_eq!(link.ask(Break("again")).await, Err(Unavailable::Closed));
    }
    tokio::time::timeout(Duration::from_secs(5), supervisor).await.unwrap().unwrap();
    let gave_up = hears.recv().await.unwrap();
    assert_eq!((gave_up.actor.as_str(), gave_up.panics), ("restless", 4));
    assert!(gave_up.last.starts_with("again"));
    assert_eq!(hears.recv().await, None, "escalated once");
    assert_eq!(link.ask(Generation).await, Err(Unavailable::Absent));
}

#[actix::test]
async fn an_actor_that_stops_by_itself_has_finished() {
    let book = RestartBook::default();
    let link = Link::<Echo>::default();
    let supervisor = supervise("brief", &link, &book, PATIENT, |_| (), |generation| Echo { generation });
    link.ask(Finish).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), supervisor).await.unwrap().unwrap();
    assert_eq!(link.ask(Generation).await, Err(Unavailable::Absent));
    assert!(book.read().is_empty());
}

#[actix::test]
async fn tell_respects_the_mailbox_bound() {
    let book = RestartBook::default();
    let link = Link::<Echo>::default();
    supervise("slow", &link, &book, PATIENT, |_| (), |generation| Echo { generation });
    // The actor is on this arbiter and cannot run until this test awaits.
    let sent = (0..10 * MAILBOX).take_while(|_| link.tell(Generation).is_ok()).count();
    assert!((MAILBOX..=MAILBOX + 2).contains(&sent), "took {sent}");
    assert_eq!(link.tell(Generation), Err(Unavailable::Full));
}
