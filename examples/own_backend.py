"""A backend of your own is one class of flows: python examples/own_backend.py URL OUTPUT."""

import sys

import backend as cf
from backend.flow import Download, Flow, Send, ask, download


class Gallery:
    """Answers every portrait with the picture at one address."""

    name = "gallery"

    def __init__(self, url: str) -> None:
        self._url = url

    def health_check(self) -> Flow[cf.Health]:
        reply = yield from ask(Send("GET", self._url), "Look at the gallery")
        return cf.Health(backend=self.name, healthy=reply.ok)

    def generate(self, request: cf.Request, *, deadline_s: float) -> Flow[cf.GenerationResult]:
        place = request.output_path
        if request.verb != "portrait" or place is None:
            raise cf.NotSupported("The gallery only has portraits, and wants to know where to put them.")
        got = yield from download(Download(url=self._url, to=place, timeout_s=deadline_s))
        file = cf.GeneratedFile(type="image", filename=place.name, local_path=place, sha256=got.sha256)
        return cf.GenerationResult(success=True, backend=self.name, files=(file,))


if __name__ == "__main__":
    cf.register_backend("gallery", lambda _: Gallery(sys.argv[1]))
    with cf.get_backend("gallery") as gallery:
        result = gallery.portrait(prompt="anybody", output_path=sys.argv[2]).raise_for_failure()
    print(result.files[0].sha256)
