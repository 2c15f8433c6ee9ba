"""What generated accounts write: collections in the network's proportions, records of its sizes.

Everything follows from a random generator that the caller seeds. Texts are made of words of a
language in no sensible order; whatever has a length has about that of the real network (a like
240 bytes, a post 480).

Source of the proportions: 180 seconds of the production network. Record schemas: lexicons
app.bsky.*; collections of other applications as seen there.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

from pipelines.atproto.cid import RAW_PREFIX
from pipelines.atproto.syntax import Did

POST: Final = "app.bsky.feed.post"
PROFILE: Final = "app.bsky.actor.profile"
GATE: Final = "app.bsky.feed.threadgate"
BLOG_ENTRY: Final = "com.whtwnd.blog.entry"

# Of a hundred thousand creates. The collections of other applications stand for many.
_WEIGHTS: Final[Mapping[str, int]] = {
    "app.bsky.feed.like": 70_000,
    POST: 11_000,
    "app.bsky.feed.repost": 9_000,
    "app.bsky.graph.follow": 6_500,
    "app.bsky.graph.block": 1_000,
    "app.bsky.graph.listitem": 500,
    "app.bsky.graph.list": 100,
    "fm.teal.alpha.feed.play": 600,
    "place.stream.chat.message": 500,
    "sh.tangled.feed.star": 400,
    "fyi.frontpage.feed.vote": 300,
    BLOG_ENTRY: 100,
}

# Languages of posts with their share in percent.
_SHARES: Final[Mapping[str, int]] = {
    "en": 48,
    "ja": 22,
    "pt": 12,
    "de": 6,
    "es": 5,
    "ko": 3,
    "fr": 3,
    "it": 1,
}
# What a text of that language is made of.
_WORDS: Final = {
    language: words.split()
    for language, words in {
        "en": (
            "the of and a to in is you that it was for on are with they be at one have "
            "this from or had by hot but some what there we can out other were all your "
            "when up use word how said each she which their time will way about many then "
            "them would write like so these her long make thing see him two has look more "
            "day could go come did my sound no most number"
        ),
        "ja": (
            "今日 は とても 天気 が いい です ね 明日 また 会い ましょう "
            "猫 の 写真 を 見る 仕事 終わった お腹 すいた ラーメン 食べたい "
            "新しい 絵 描き ました おはよう ございます 眠い 本当に 楽しい "
            "ゲーム した 電車 遅れて いる ありがとう 好き な 音楽 聴く 散歩 "
            "花 きれい 夜 コーヒー"
        ),
        "pt": (
            "que de não um uma para com é eu você mais como mas por isso ele ela muito já "
            "está hoje gente bom dia boa noite amor saudade jogo música casa trabalho "
            "tempo agora sempre nunca coração café água futebol praia amanhã então porque "
            "também ainda"
        ),
        "de": (
            "der die das und ist nicht ich sie es mit auf für ein eine im wir heute morgen "
            "guten immer schön Wetter Katze Kaffee Straße über müssen können würde schon "
            "wieder endlich Feierabend"
        ),
        "es": (
            "que de no la el en y los se por un para con una su al lo como más pero sus le "
            "ya o este sí porque esta entre cuando muy sin sobre también me hasta hay "
            "donde mañana corazón año niño"
        ),
        "ko": (
            "오늘 정말 좋은 날씨 네요 고양이 사진 커피 마시고 싶다 내일 또 "
            "만나요 배고프다 음악 듣는 중 퇴근 하고 집에 가는 길 너무 "
            "귀여워 감사합니다 그림 그렸어요 졸려"
        ),
        "fr": (
            "le la les de des un une et est pas que je tu il elle nous vous avec pour dans "
            "sur très bien merci bonjour café déjà été être même toujours jamais demain ça "
            "où quand après"
        ),
        "it": (
            "che di non un una per con sono sei ma come anche questo oggi domani bello "
            "buongiorno caffè perché città più già gatto mare lavoro musica sempre mai"
        ),
    }.items()
}

# How many posts, and how many people, new records may point at: the latest.
_REMEMBERED_COUNT: Final = 4_096

_T = TypeVar("_T")


class Post(NamedTuple):
    """A post that other records may point at.

    Attributes:
        uri: its at-uri.
        cid: CID of the record as text.
    """

    uri: str
    cid: str


class Content:
    """Composes records. Remembers recent posts and people, so that what points at them exists."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._posts: list[Post] = []
        self._people: list[Did] = []
        self._posts_count = self._people_count = 0
        self._composers: Mapping[str, Callable[[], dict[str, Any]]] = {
            POST: self._post,
            "app.bsky.feed.like": self._subject_post,
            "app.bsky.feed.repost": self._subject_post,
            "app.bsky.graph.follow": self._subject_person,
            "app.bsky.graph.block": self._subject_person,
            "app.bsky.graph.list": self._list,
            "app.bsky.graph.listitem": self._list_item,
            "fm.teal.alpha.feed.play": self._play,
            "fyi.frontpage.feed.vote": self._subject_post,
            "place.stream.chat.message": self._chat_message,
            "sh.tangled.feed.star": self._subject_post,
            BLOG_ENTRY: self._blog_entry,
        }

    def compose(self, created_at: str) -> tuple[str, dict[str, Any]]:
        """Returns the collection and fields of a new record."""
        collection = _pick(self._random.random(), _COLLECTIONS, _COLLECTION_LIMITS)
        if not self._posts:
            collection = POST  # most others would have nothing to point at
        return collection, self._record(collection, self._composers[collection](), created_at)

    def compose_profile(self, created_at: str) -> dict[str, Any]:
        """Returns the fields of a profile, each time other ones."""
        fields = {
            "displayName": self._text(self._language(), 2),
            "description": self._text(self._language(), self._random.randrange(5, 30)),
            "avatar": self._blob(),
        }
        return self._record(PROFILE, fields, created_at)

    def compose_blog_entry(self, created_at: str) -> dict[str, Any]:
        """Returns the fields of a blog entry."""
        return self._record(BLOG_ENTRY, self._blog_entry(), created_at)

    def compose_gate(self, post_uri: str, created_at: str) -> dict[str, Any]:
        """Returns the fields of a record that closes a post to answers."""
        return self._record(GATE, {"post": post_uri, "allow": []}, created_at)

    def remember_post(self, post: Post) -> None:
        """Lets later records point at a post that was written."""
        self._posts_count = _remember(self._posts, post, self._posts_count)

    def remember_person(self, did: Did) -> None:
        """Lets later records point at an account."""
        self._people_count = _remember(self._people, did, self._people_count)

    def _record(self, collection: str, fields: dict[str, Any], created_at: str) -> dict[str, Any]:
        fields["$type"] = collection
        fields["createdAt"] = created_at
        return fields

    def _post(self) -> dict[str, Any]:
        random = self._random
        language = self._language()
        text = self._text(language, 1 + int(45 * random.random() ** 2))
        fields: dict[str, Any] = {"text": text}
        chance = random.random()
        if chance < 0.9:
            fields["langs"] = [language]
        elif chance < 0.93:
            fields["langs"] = [language, "en" if language != "en" else "ja"]
        if self._posts and random.random() < 0.5:
            parent = self._some(self._posts)
            root = parent if random.random() < 0.6 else self._some(self._posts)
            fields["reply"] = {"root": root._asdict(), "parent": parent._asdict()}
        chance = random.random()
        if chance < 0.18:
            fields["embed"] = self._images(language)
        elif chance < 0.28:
            fields["embed"] = self._external(language)
        elif chance < 0.33 and self._posts:
            quoted = self._some(self._posts)._asdict()
            fields["embed"] = {"$type": "app.bsky.embed.record", "record": quoted}
        if random.random() < 0.1:
            fields["facets"] = [self._tag_facet(text)]
        return fields

    def _images(self, language: str) -> dict[str, Any]:
        images = [
            {
                "alt": self._text(language, 6) if self._random.random() < 0.3 else "",
                "image": self._blob(),
                "aspectRatio": {"width": 1200, "height": 900},
            }
            for _ in range(1 + int(3 * self._random.random() ** 3))
        ]
        return {"$type": "app.bsky.embed.images", "images": images}

    def _external(self, language: str) -> dict[str, Any]:
        external = {
            "uri": self._url(),
            "title": self._text(language, 7),
            "description": self._text(language, 18),
            "thumb": self._blob(),
        }
        return {"$type": "app.bsky.embed.external", "external": external}

    def _tag_facet(self, text: str) -> dict[str, Any]:
        word = text.split(" ", 1)[0]
        return {
            "index": {"byteStart": 0, "byteEnd": len(word.encode())},
            "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": word}],
        }

    def _subject_post(self) -> dict[str, Any]:
        return {"subject": self._some(self._posts)._asdict()}

    def _subject_person(self) -> dict[str, Any]:
        return {"subject": self._some(self._people)}

    def _list(self) -> dict[str, Any]:
        language = self._language()
        return {
            "name": self._text(language, 3),
            "purpose": "app.bsky.graph.defs#curatelist",
            "description": self._text(language, 15),
        }

    def _list_item(self) -> dict[str, Any]:
        # Lists are not remembered; nothing in the network checks that one exists either.
        owner, rkey = self._some(self._posts).uri.rsplit("/", 1)
        lists = owner.replace(POST, "app.bsky.graph.list")
        return {"subject": self._some(self._people), "list": f"{lists}/{rkey}"}

    def _play(self) -> dict[str, Any]:
        return {
            "trackName": self._text("en", 3),
            "artists": [{"artistName": self._text("en", 2)}],
            "duration": self._random.randrange(90, 420),
            "originUrl": self._url(),
            "musicServiceBaseDomain": "example.com",
        }

    def _chat_message(self) -> dict[str, Any]:
        return {"text": self._text(self._language(), 8), "streamer": self._some(self._people)}

    def _blog_entry(self) -> dict[str, Any]:
        language = self._language()
        return {
            "title": self._text(language, 6),
            "content": "\n\n".join(
                self._text(language, 80) for _ in range(self._random.randrange(3, 40))
            ),
            "visibility": "public",
        }

    def _language(self) -> str:
        return _pick(self._random.random(), _LANGUAGES, _LANGUAGE_LIMITS)

    def _text(self, language: str, words_count: int) -> str:
        words = _WORDS[language]
        start = self._random.randrange(len(words))
        # From a random word on, around the end: as good as random for the price of one draw.
        rounds = (start + words_count) // len(words) + 1
        return " ".join((words * rounds)[start : start + words_count])

    def _url(self) -> str:
        return f"https://www.example.com/watch/{self._random.getrandbits(64):016x}"

    def _blob(self) -> dict[str, Any]:
        return {
            "$type": "blob",
            "ref": RAW_PREFIX + self._random.randbytes(32),
            "mimeType": "image/jpeg",
            "size": self._random.randrange(20_000, 950_000),
        }

    def _some(self, items: Sequence[_T]) -> _T:
        return items[int(len(items) * self._random.random())]


def _pick(chance: float, items: Sequence[_T], limits: Sequence[float]) -> _T:
    """Returns the item in whose share of 0 … 1 a chance falls."""
    return items[bisect_right(limits, chance)]


def _limits(weights: Iterable[int]) -> list[float]:
    """Returns where each item's share ends but the last one's."""
    sums = list(itertools.accumulate(weights))
    return [limit / sums[-1] for limit in sums[:-1]]


def _remember(items: list[_T], item: _T, count: int) -> int:
    """Puts an item into a ring of bounded size; returns how many were put in so far."""
    if count < _REMEMBERED_COUNT:
        items.append(item)
    else:
        items[count % _REMEMBERED_COUNT] = item
    return count + 1


_COLLECTIONS: Final = tuple(_WEIGHTS)
_COLLECTION_LIMITS: Final = _limits(_WEIGHTS.values())
_LANGUAGES: Final = tuple(_SHARES)
_LANGUAGE_LIMITS: Final = _limits(_SHARES.values())
