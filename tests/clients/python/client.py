"""The Python clients of the matrix: `client.py NAME plain|stream BASE`. Each is used as its own documentation begins."""
import asyncio
import sys
from importlib.metadata import version

from answers import QUESTION, address, headers, pieces, question, tell, whole


def with_requests(streams, base):
    import requests

    with requests.post(address(base), json=question(streams), headers=headers(), stream=streams) as answer:
        answer.raise_for_status()
        return list(pieces(answer.iter_lines())) if streams else whole(answer.json())


def with_urllib3(streams, base):
    import urllib3

    answer = urllib3.request("POST", address(base), json=question(streams), headers=headers(),
                             preload_content=not streams, retries=False)
    if answer.status != 200:
        raise OSError(answer.status)
    return list(pieces(answer)) if streams else whole(answer.json())


def with_httpx(streams, base):
    import httpx

    with httpx.stream("POST", address(base), json=question(streams), headers=headers()) as answer:
        answer.raise_for_status()
        if streams:
            return list(pieces(answer.iter_lines()))
        answer.read()
        return whole(answer.json())


def with_aiohttp(streams, base):
    import aiohttp

    async def call():
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            async with session.post(address(base), json=question(streams), headers=headers()) as answer:
                if not streams:
                    return whole(await answer.json())
                return list(pieces([line async for line in answer.content]))

    return asyncio.run(call())


def with_openai(streams, base):
    import openai

    client = openai.OpenAI() if base == "-" else openai.OpenAI(base_url=base)
    answer = client.chat.completions.create(**question(streams))
    if not streams:
        return [answer.choices[0].message.content]
    return [choice.delta.content for chunk in answer for choice in chunk.choices]


def with_anthropic(streams, base):
    import anthropic

    client = anthropic.Anthropic() if base == "-" else anthropic.Anthropic(base_url=base.removesuffix("/v1"))
    if not streams:
        return [block.text for block in client.messages.create(**QUESTION).content]
    with client.messages.stream(**QUESTION) as stream:
        return list(stream.text_stream)


def with_litellm(streams, base):
    import litellm

    where = {} if base == "-" else {"api_base": base}
    asked = {**question(streams), "model": "openai/test/small"}
    answer = litellm.completion(**asked, **where)
    if not streams:
        return [answer.choices[0].message.content]
    return [choice.delta.content for chunk in answer for choice in chunk.choices]


if __name__ == "__main__":
    name, wanted, base = sys.argv[1:]
    call = globals()["with_" + name]
    tell(version(name), call(wanted == "stream", base))
