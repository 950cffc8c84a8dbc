"""A web server that shares one Predictor among its threads, as FastAPI does with plain functions."""

from __future__ import annotations

import asyncio
from typing import Annotated

import cv2
import httpx
import numpy as np
import pytest
from fastapi import Depends, FastAPI, Request

from popos_cli.predict.predictor import Predictor


async def body(request: Request) -> bytes:
    return await request.body()


@pytest.fixture(scope="module")
def app():
    app, predictor = FastAPI(), Predictor("small", "cpu", "haar")

    @app.post("/faces")
    def faces(data: Annotated[bytes, Depends(body)]):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return [face.to_dict() for face in predictor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))]

    return app


def test_requests_at_the_same_time_get_their_own_faces(app, astronaut, hopper):
    first, second = cv2.imread(str(astronaut)), cv2.imread(str(hopper))
    pictures = [first[40:260, 100:330], second[100:400, 100:400], np.zeros((40, 50, 3), np.uint8), first]
    uploads = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]

    async def answers():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://popos") as client:

            async def ask(data):
                return (await client.post("/faces", content=data)).raise_for_status().json()

            alone = [await ask(data) for data in uploads]
            return alone, await asyncio.gather(*(ask(data) for data in uploads * 6))

    alone, together = asyncio.run(answers())
    assert [len(faces) for faces in alone] == [1, 1, 0, 1]
    assert together == alone * 6
