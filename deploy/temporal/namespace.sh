#!/bin/sh
# Makes the namespace and registers the search attributes of contracts/visibility.py. Safe to run again.
set -eu
export TEMPORAL_ADDRESS=temporal:7233 TEMPORAL_NAMESPACE=default

until temporal operator cluster health >/dev/null 2>&1; do sleep 1; done
temporal operator namespace describe >/dev/null 2>&1 || temporal operator namespace create --retention 30d
# A new namespace takes a few seconds to be known to every part of the server.
until temporal operator search-attribute list >/dev/null 2>&1; do sleep 1; done

known=$(temporal operator search-attribute list)
for attribute in \
    ChamaTenant=Keyword ChamaMode=Keyword ChamaEntity=Keyword ChamaStatus=Keyword ChamaBlocked=Keyword \
    ChamaNextActionAt=Datetime ChamaProvider=Keyword; do
    case "$known" in
    *"${attribute%=*} "*) ;;
    *) temporal operator search-attribute create --name "${attribute%=*}" --type "${attribute#*=}" ;;
    esac
done
