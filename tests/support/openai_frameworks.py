"""Frameworks as clients of the OpenAI API, in an environment that has them.

    PEERS/bin/python tests/support/openai_frameworks.py FRAMEWORK URL KEY < texts.json

Prints what each way to ask gave, as JSON: embeddings, or a refusal's message. It prints
null if the framework is not installed.
"""

import asyncio
import json
import os
import sys
from importlib.util import find_spec

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
MODEL = "simcse"


def langchain(url, key, texts):
    from langchain_openai import OpenAIEmbeddings
    from openai import BadRequestError

    settings = {"model": MODEL, "base_url": url, "api_key": key}
    embeddings = OpenAIEmbeddings(**settings, check_embedding_ctx_length=False)
    found = {
        "queries": [embeddings.embed_query(text) for text in texts],
        "documents": embeddings.embed_documents(texts),
        "async": asyncio.run(embeddings.aembed_documents(texts)),
    }
    give_tokenizer()
    try:
        OpenAIEmbeddings(**settings).embed_documents(texts)
    except BadRequestError as error:
        found["refused"] = str(error)
    return found


def give_tokenizer():
    """Another model's tokenizer, which LangChain would fetch from the network."""
    import tiktoken

    bytes_alone = tiktoken.Encoding(
        "cl100k_base",
        pat_str=r".+|\n",
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={},
    )
    tiktoken.get_encoding = lambda name: bytes_alone


def haystack(url, key, texts):
    from haystack import Document
    from haystack.components.embedders import (
        OpenAIDocumentEmbedder,
        OpenAITextEmbedder,
    )
    from haystack.utils import Secret

    settings = {
        "model": MODEL,
        "api_base_url": url,
        "api_key": Secret.from_token(key),
    }
    queries = OpenAITextEmbedder(**settings)
    documents = OpenAIDocumentEmbedder(**settings, progress_bar=False, batch_size=3)

    # Two documents of the same text need two ids.
    given = [Document(content=text, id=str(at)) for at, text in enumerate(texts)]
    answers = {
        "documents": documents.run(given),
        "async": asyncio.run(documents.run_async(given)),
    }
    return {
        "queries": [queries.run(text)["embedding"] for text in texts],
        **{
            way: [document.embedding for document in answer["documents"]]
            for way, answer in answers.items()
        },
    }


def llama_index(url, key, texts):
    from llama_index.embeddings.openai import OpenAIEmbedding

    settings = {"model_name": MODEL, "api_base": url, "api_key": key}
    embeddings = OpenAIEmbedding(**settings)
    return {
        "queries": [embeddings.get_query_embedding(text) for text in texts],
        "documents": embeddings.get_text_embedding_batch(texts),
        "async": asyncio.run(embeddings.aget_text_embedding_batch(texts)),
    }


FRAMEWORKS = {
    "langchain": (langchain, "langchain_openai"),
    "haystack": (haystack, "haystack"),
    "llama_index": (llama_index, "llama_index"),
}


def main():
    name, url, key = sys.argv[1:]
    ask, package = FRAMEWORKS[name]
    texts = json.load(sys.stdin)
    found = ask(url, key, texts) if find_spec(package) else None
    # Libraries may print as well: the last line counts.
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
